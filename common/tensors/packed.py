"""Weights as they travel to the nodes: int8 per output channel, fp16 or fp32, in one safetensors file.

int8 is symmetric: ``w ≈ q · s`` with one fp32 scale ``s = max|w| / 127`` per output channel.  A tensor that is small,
one-dimensional, not finite or no float is never quantised: it stays fp16 where that loses nothing that fp16 resolves
(no overflow, no subnormals), else fp32; integers and booleans travel as they are.  Every tensor comes back in the dtype
it had (bfloat16 as float32).

Layout: tensor ``"q/<n>"`` holds the words of tensor n, ``"s/<n>"`` its scales; ``__metadata__["packed"]`` =
``{"version": 1, "tensors": [[name, how, dtype, axis], ...]}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.child.frames import object_header
from common.errors import BadInput, BadManifest, BadUpdate
from common.tensors.dtypes import FLOATS, name_of, raw, view
from common.tensors.safe import ContentLimits, SafeTable, SafeTensor, check_name, parse_table, strict_json

HOW = ("fp32", "fp16", "int8")
SMALL = 512  # elements; below this the scales and the loss are not worth the bytes
VERSION = 1
_HALF_TINY = float(np.finfo(np.float16).tiny)  # the smallest normal number
_HALF_MAX = float(np.finfo(np.float16).max)
_WORDS = {"fp32": "F32", "fp16": "F16", "int8": "I8"}
_LIMITS = ContentLimits()


def pack(tensors: Mapping[str, NDArray[Any]], how: str, axes: Mapping[str, int] | None = None) -> bytes:
    """Return ``tensors`` packed.

    Args:
        tensors: Arrays by name; any dtype that numpy and safetensors share.
        how: "int8", "fp16" or "fp32".
        axes: The axis of output channels where it is not the first.

    Raises:
        BadInput: an unknown ``how``.
        BadUpdate: a name or dtype that cannot be carried.
    """
    if how not in HOW:
        raise BadInput(f"weights can be packed as {', '.join(HOW)}, not {how!r}")
    rows: list[list[Any]] = []
    entries: list[tuple[str, str, tuple[int, ...], int]] = []
    parts: list[bytes] = []
    for number, (name, given) in enumerate(tensors.items()):
        array = np.ascontiguousarray(given).reshape(given.shape)
        check_name(name, "tensor name")
        dtype = name_of(array.dtype)
        chosen = _choose(array, dtype, how)
        axis = (axes or {}).get(name, 0) % max(array.ndim, 1)
        rows.append([name, chosen, dtype, axis])
        for label, words in _encode(array, chosen, axis).items():
            entries.append((f"{label}/{number}", name_of(words.dtype), words.shape, words.nbytes))
            parts.append(words.tobytes())
    listing = json.dumps({"version": VERSION, "tensors": rows}, separators=(",", ":"))
    return object_header(entries, {"packed": listing}) + b"".join(parts)


def unpack(data: bytes | memoryview, limits: ContentLimits = _LIMITS) -> dict[str, NDArray[Any]]:
    """Return the tensors of a packed file by name, dequantised, in their order.

    Raises:
        BadManifest: it is no packed file within ``limits``.
    """
    try:
        return _unpack(memoryview(data), limits)
    except BadUpdate as error:
        raise BadManifest(f"packed tensors: {error.detail}") from error


def max_errors(tensors: Mapping[str, NDArray[Any]], packed: bytes) -> dict[str, float]:
    """Return, for each float tensor, the largest absolute difference that packing made; NaN against NaN is none."""
    errors: dict[str, float] = {}
    for name, back in unpack(packed).items():
        before = tensors[name]
        if before.dtype.kind == "f" and before.size:
            with np.errstate(invalid="ignore"):
                gap = np.abs(before.astype(np.float64) - back.astype(np.float64))
            errors[name] = float(np.max(np.nan_to_num(gap, nan=0.0, posinf=np.inf)))
    return errors


def _choose(array: NDArray[Any], dtype: str, how: str) -> str:
    if dtype not in FLOATS:
        return "raw"
    if not np.isfinite(array).all() or array.size == 0:
        return "raw"
    if how == "int8" and array.ndim > 1 and array.size >= SMALL:
        return "int8"
    if how == "fp32" or dtype == "F16":
        return "raw" if dtype == "F16" else "fp32"
    return "fp16" if _fits_half(array) else "fp32"


def _fits_half(array: NDArray[Any]) -> bool:
    """Say whether fp16 keeps its relative precision on all but a few values, and overflows on none.

    Zeros fit.  Values under the smallest normal number lose relative precision; among weights of ordinary size that is
    noise, but a tensor made of them (a running variance) would be ruined.
    """
    size = np.abs(array)
    top = float(size.max())
    return top <= _HALF_MAX and (top == 0.0 or top >= 16 * _HALF_TINY) and (array.ndim > 1 or _resolved(size))


def _resolved(size: NDArray[Any]) -> bool:
    return bool(((size == 0) | (size >= _HALF_TINY)).all())


def _encode(array: NDArray[Any], how: str, axis: int) -> dict[str, NDArray[Any]]:
    if how == "raw":
        return {"q": array.astype(array.dtype.newbyteorder("<"), copy=False)}
    if how == "fp32":
        with np.errstate(over="ignore"):
            return {"q": array.astype("<f4")}
    if how == "fp16":
        return {"q": array.astype("<f2")}
    others = tuple(a for a in range(array.ndim) if a != axis)
    values = array.astype(np.float32, copy=False)
    tops = np.abs(values).max(axis=others, keepdims=True)
    # A channel of zeros has scale 1; a subnormal scale could not be divided by.
    scales = np.where(tops / 127 >= np.finfo(np.float32).tiny, tops / 127, 1.0).astype("<f4")
    quantised = np.clip(np.rint(values / scales), -127, 127).astype(np.int8)
    return {"q": quantised, "s": scales.reshape(-1)}


def _unpack(data: memoryview, limits: ContentLimits) -> dict[str, NDArray[Any]]:
    table = parse_table(bytes(data[: limits.header_bytes + 8]), len(data), limits)
    listing = strict_json(table.metadata.get("packed", ""), "the list of packed tensors")
    rows = listing.get("tensors")
    if listing.get("version") != VERSION or not isinstance(rows, list) or listing.keys() != {"version", "tensors"}:
        raise BadUpdate(f"the list of packed tensors must have version {VERSION} and tensors")
    left = {t.name: t for t in table.tensors}
    result: dict[str, NDArray[Any]] = {}
    for number, row in enumerate(rows):
        name, how, dtype, axis = _row(row)
        if name in result:
            raise BadUpdate(f"tensor {name[:80]!r} is packed twice")
        words, scales = left.pop(f"q/{number}", None), left.pop(f"s/{number}", None)
        result[name] = _decode(data, (name, how, dtype, axis), words, scales)
    if left:
        raise BadUpdate(f"tensor {next(iter(left))!r} is not in the list")
    return _bounded(result, table)


def _bounded(result: dict[str, NDArray[Any]], table: SafeTable) -> dict[str, NDArray[Any]]:
    # int8 grows at most 8-fold (a float64 tensor), so the limit on the file is a limit on the memory.
    if sum(a.nbytes for a in result.values()) > 8 * table.size:
        raise BadUpdate("the tensors grow more than their packing can explain")
    return result


def _row(row: object) -> tuple[str, str, str, int]:
    if not isinstance(row, list) or len(row) != 4:
        raise BadUpdate("a packed tensor must be [name, how, dtype, axis]")
    name, how, dtype, axis = row
    check_name(name, "tensor name")
    if not isinstance(how, str) or how not in {"raw", *HOW}:
        raise BadUpdate(f"tensor {name[:80]!r} is packed in the unknown way {str(how)[:20]!r}")
    if not isinstance(dtype, str) or (how != "raw" and dtype not in FLOATS - {"BF16"}) or dtype == "BF16":
        raise BadUpdate(f"tensor {name[:80]!r} cannot come back as {str(dtype)[:20]!r}")
    if type(axis) is not int or axis < 0:
        raise BadUpdate(f"tensor {name[:80]!r} has no valid axis")
    return name, how, dtype, axis


def _decode(
    data: memoryview, row: tuple[str, str, str, int], words: SafeTensor | None, scales: SafeTensor | None
) -> NDArray[Any]:
    name, how, dtype, axis = row
    if words is None or words.dtype != (dtype if how == "raw" else _WORDS[how]):
        raise BadUpdate(f"the words of tensor {name[:80]!r} are missing or of the wrong dtype")
    if (scales is not None) != (how == "int8"):
        raise BadUpdate(f"tensor {name[:80]!r}: scales belong to int8 and only to it")
    array = _array(data, words)
    if how == "raw":
        return array
    if scales is None:
        return array.astype(raw(dtype), copy=False)
    if axis >= array.ndim or scales.dtype != "F32" or scales.shape != (array.shape[axis],):
        raise BadUpdate(f"tensor {name[:80]!r} needs one fp32 scale per channel of axis {axis}")
    factors = _array(data, scales)
    if not np.isfinite(factors).all():
        raise BadUpdate(f"tensor {name[:80]!r} has a scale that is not finite")
    shape = [1] * array.ndim
    shape[axis] = -1
    with np.errstate(over="ignore"):
        values: NDArray[Any] = np.multiply(array, factors.reshape(shape), dtype=np.float32)
    return values.astype(raw(dtype), copy=False)


def _array(data: memoryview, tensor: SafeTensor) -> NDArray[Any]:
    return view(data[tensor.offset : tensor.offset + tensor.nbytes], tensor.dtype, tensor.shape)
