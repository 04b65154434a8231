"""The dtypes of an object (safetensors names) and their way to float32 and back.

numpy has no bfloat16: such a tensor is held as its raw 16-bit words (``uint16``), here and everywhere above.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import BadUpdate

NUMPY: dict[str, np.dtype[Any] | None] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": None,
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "BOOL": np.dtype("?"),
}
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_NAMES = {dtype: name for name, dtype in NUMPY.items() if dtype is not None}


def raw(dtype: str) -> np.dtype[Any]:
    """Return the numpy dtype that holds ``dtype``'s words: ``uint16`` for BF16, else the dtype itself.

    Raises:
        BadUpdate: no such dtype.
    """
    if dtype not in NUMPY:
        raise BadUpdate(f"unknown dtype {dtype[:20]!r}")
    return NUMPY[dtype] or np.dtype("<u2")


def itemsize(dtype: str) -> int:
    """Return the bytes of one element.

    Raises:
        BadUpdate: no such dtype.
    """
    return raw(dtype).itemsize


def name_of(dtype: np.dtype[Any]) -> str:
    """Return the safetensors name of a numpy dtype.

    Raises:
        BadUpdate: objects cannot carry it.
    """
    name = _NAMES.get(dtype.newbyteorder("<"))
    if name is None:
        raise BadUpdate(f"arrays of {dtype} cannot be carried; known are {', '.join(NUMPY)}")
    return name


def view(data: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return ``data`` as an array without a copy; read-only where ``data`` is.

    Raises:
        BadUpdate: length and shape disagree.
    """
    array = np.frombuffer(data, dtype=raw(dtype)) if len(data) else np.empty(0, dtype=raw(dtype))
    if array.size != int(np.prod(shape, dtype=object)):
        raise BadUpdate(f"{len(data)} bytes are no {dtype} of shape {shape}")
    return array.reshape(shape)


def to_float32(words: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Return the values of ``words`` (as ``raw(dtype)``) as float32; a float32 array is returned as it is."""
    if dtype == "BF16":
        return (words.astype(np.uint32) << np.uint32(16)).view(np.float32)
    with np.errstate(over="ignore"):
        return words.astype(np.float32, copy=False)


def from_float32(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Return ``values`` rounded to ``dtype``'s words (as ``raw(dtype)``).

    Rounding is to nearest, ties to even; integers are clipped to their range, and a NaN becomes 0 there.
    """
    if dtype == "BF16":
        return _bfloat16(values)
    target = raw(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        if target.kind == "b":
            return np.not_equal(values, 0)
        if target.kind in "iu":
            return _integers(values, target)
        return values.astype(target, copy=False)


def _bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    with np.errstate(over="ignore"):
        rounded = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(
            np.uint16
        )
    # Rounding the mantissa of a NaN up could carry into infinity or wrap: keep it a (quiet) NaN instead.
    quiet = ((bits >> np.uint32(16)) | np.uint32(0x40)).astype(np.uint16)
    return np.where(np.isnan(values), quiet, rounded).reshape(values.shape)


def _integers(values: NDArray[np.float32], target: np.dtype[Any]) -> NDArray[Any]:
    info = np.iinfo(target)
    rounded = np.nan_to_num(np.rint(values.astype(np.float64)), nan=0.0, posinf=np.inf, neginf=-np.inf)
    words = np.clip(rounded, float(info.min), float(info.max)).astype(target)
    # float64 cannot hold the largest 64-bit integers: what was rounded up to 2**63 must not wrap around.
    return np.where(rounded >= float(info.max), np.array(info.max, dtype=target), words)
