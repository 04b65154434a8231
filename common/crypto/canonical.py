"""One JSON text for one value, so that a signature or a digest has something to stand on.

Rules: UTF-8 without escapes beyond JSON's own, keys are strings and sorted by code point, no white space, integers in
full, floats as Python's shortest text that reads back the same, no NaN and no infinity.  Out of scope: RFC 8785, whose
number format loses the difference between 1 and 1.0.
"""

from __future__ import annotations

import json
import math
from typing import Any

from common.errors import BadInput

MAX_DEPTH = 64


def canonical(value: object) -> bytes:
    """Return the canonical JSON of ``value``.

    Raises:
        BadInput: it holds what JSON has no word for (NaN, bytes, keys that are no strings …) or nests too deep.
    """
    _check(value, MAX_DEPTH)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BadInput("a lone surrogate is no text") from error


def parse_canonical(data: bytes) -> Any:  # noqa: ANN401
    """Return the value that ``data`` is the canonical JSON of.

    Raises:
        BadInput: it is no JSON, or not in the canonical form (so no two texts of one value are ever accepted).
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput("not JSON") from error
    if canonical(value) != data:
        raise BadInput("JSON is not in canonical form")
    return value


def _check(value: object, depth: int) -> None:
    if depth == 0:
        raise BadInput(f"nested deeper than {MAX_DEPTH}")
    if value is None or isinstance(value, (bool, int, str)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadInput(f"{value} has no place in canonical JSON")
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise BadInput(f"key {key!r} is no string")
            _check(item, depth - 1)
        return
    if isinstance(value, (list, tuple)):
        for item in value:
            _check(item, depth - 1)
        return
    raise BadInput(f"a {type(value).__name__} has no place in canonical JSON")
