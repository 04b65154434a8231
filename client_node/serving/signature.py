"""What a served version takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import BadInput
from common.tensors.dtypes import NUMPY

TEXT = "STR"
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output; None in the shape is a free dimension."""

    name: str
    dtype: str  # safetensors name, or "STR"
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Signature:
    """All inputs and outputs of a version."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    by_name: Mapping[str, TensorSpec] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {spec.name: spec for spec in self.inputs})

    def spec(self, name: str) -> TensorSpec:
        """Return the input called ``name``.

        Raises:
            BadInput: there is none.
        """
        found = self.by_name.get(name)
        if found is None:
            raise BadInput(f"unexpected input {name[:80]!r}; the model takes {', '.join(s.name for s in self.inputs)}")
        return found


@dataclass(frozen=True)
class ServedVersion:
    """What the protocols say about one version."""

    tenant: str
    model: str
    version: int
    label: str  # the alias it was deployed under, "" = none
    signature: Signature


def signature(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> Signature:
    """Return the signature from the manifest's port rows ({"name", "dtype", "shape"})."""
    return Signature(tuple(_spec(row) for row in inputs), tuple(_spec(row) for row in outputs))


def check(arrays: Arrays, wanted: Signature, max_rows: int) -> None:
    """Refuse arrays that the model cannot take: an input missing, a wrong rank or dimension, too many rows.

    Raises:
        BadInput: with the input's name, what came and what is wanted.
    """
    for spec in wanted.inputs:
        array = arrays.get(spec.name)
        if array is None:
            raise BadInput(f"input {spec.name!r} is missing")
        fits = array.ndim == len(spec.shape) and all(
            want is None or want == got for want, got in zip(spec.shape, array.shape, strict=True)
        )
        if not fits:
            raise BadInput(f"input {spec.name!r} has shape {list(array.shape)}, expected {show_shape(spec)}")
        if array.ndim and array.shape[0] > max_rows:
            raise BadInput(f"input {spec.name!r} has {array.shape[0]} rows, at most {max_rows} are allowed")


def show_shape(spec: TensorSpec) -> str:
    """Return a shape for people; ``?`` is a free dimension."""
    return "[" + ", ".join("?" if d is None else str(d) for d in spec.shape) + "]"


def from_json(value: object, spec: TensorSpec) -> NDArray[Any]:
    """Return a JSON value (numbers, booleans or strings, nested in lists) as an array of ``spec``'s dtype.

    The target dtype is always given to numpy: left to itself it would make an array with one long string in it as wide
    as that string everywhere.  A null among floats is NaN.

    Raises:
        BadInput: ragged, or of another kind; a float is not silently cut to an integer.
    """
    try:
        if spec.dtype in {TEXT, "BOOL"}:
            return _leaves(value, spec)
        return _numbers(value, spec)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(f"input {spec.name!r} must be a regular array of {spec.dtype} values") from error


def _leaves(value: object, spec: TensorSpec) -> NDArray[Any]:
    array = np.array(value, dtype=object)
    kind = str if spec.dtype == TEXT else bool
    if not all(isinstance(leaf, kind) for leaf in array.reshape(-1)):
        raise BadInput(f"input {spec.name!r} must be a regular array of {spec.dtype} values")
    return array if spec.dtype == TEXT else array.astype(np.bool_)


def _numbers(value: object, spec: TensorSpec) -> NDArray[Any]:
    leaf = value
    while isinstance(leaf, list) and leaf:
        leaf = leaf[0]
    if isinstance(leaf, (str, bool, dict)):
        raise BadInput(f"input {spec.name!r} must be a regular array of {spec.dtype} values")
    target = _word(spec)
    with np.errstate(over="ignore"):
        array = np.array(value, dtype=target)
    if target.kind in "iu" and not (np.array(value, dtype=np.float64) == array).all():
        raise BadInput(f"input {spec.name!r} must hold whole numbers")
    return array


def _word(spec: TensorSpec) -> np.dtype[Any]:
    dtype = NUMPY.get(spec.dtype)
    if dtype is None:
        raise BadInput(f"input {spec.name!r} is {spec.dtype}, which has no JSON form here")
    return dtype


def _spec(row: dict[str, Any]) -> TensorSpec:
    return TensorSpec(
        row["name"], row["dtype"], tuple(d if isinstance(d, int) and d >= 0 else None for d in row["shape"])
    )
