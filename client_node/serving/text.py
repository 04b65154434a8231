"""JSON in and out, fast where it is plain and right where it is not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from common.errors import BadInput

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


def read_object(body: bytes | memoryview) -> dict[str, Any]:
    """Return the JSON object in ``body``; bare ``NaN`` and ``Infinity`` are taken, as TensorFlow Serving does.

    Raises:
        BadInput: it is none.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _lenient(bytes(body))
    if not isinstance(value, dict):
        raise BadInput("JSON Value: the request must be an object")
    return value


def write(value: object) -> bytes:
    """Return ``value`` as JSON; arrays as nested lists, what is not finite as null."""
    return orjson.dumps(value, option=_OPTIONS, default=_plain)  # scalars and rare dtypes go the slow way


def write_bare(value: object) -> bytes:
    """Return ``value`` as JSON; what is not finite as bare ``NaN`` and ``Infinity``."""
    return json.dumps(value, separators=(",", ":"), default=_plain).encode()


def finite(array: NDArray[Any]) -> bool:
    """Say whether every value has a form in strict JSON."""
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def plain(array: NDArray[Any]) -> object:
    """Return the array as orjson takes it: itself, or lists where it holds text."""
    return array.tolist() if array.dtype.kind in "OUS" else np.ascontiguousarray(array).reshape(array.shape)


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(type(value).__name__)


def _lenient(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"JSON Parse error: {str(error)[:120]}") from error
