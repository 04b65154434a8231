"""The header of a safetensors file that somebody else wrote, read strictly.

Whatever the ``safetensors`` library refuses is refused, and more: duplicate names, tables deeper or larger than a
header needs.  Every number is checked before anything of its size is allocated.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from typing import Any

from common.child.frames import MAX_HEADER
from common.errors import BadUpdate
from common.tensors.dtypes import NUMPY, itemsize
from common.units import GIB

MAX_NAME = 1024  # characters of a tensor's name
MAX_RANK = 32


@dataclass(frozen=True)
class ContentLimits:
    """What an object may be at most."""

    object_bytes: int = 8 * GIB
    header_bytes: int = MAX_HEADER
    tensors: int = 100_000
    values: int = 100_000  # metric and config values, list elements counted


@dataclass(frozen=True)
class SafeTensor:
    """One row of the table; ``offset`` is absolute in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int  # bytes
    nbytes: int


@dataclass(frozen=True)
class SafeTable:
    """A whole header: tensors by offset, covering the data without gap or overlap."""

    tensors: tuple[SafeTensor, ...]
    metadata: dict[str, str]
    data_offset: int
    size: int


def read_head(fd: int, size: int, limits: ContentLimits) -> bytes:
    """Return the first bytes of the file behind ``fd``, the whole header included.

    Raises:
        BadUpdate: too large, too short, or the header is over the limit.
    """
    check_size(size, limits)
    head = os.pread(fd, min(size, 64 * 1024), 0)
    wanted = header_size(head, size, limits)
    while len(head) < wanted:
        more = os.pread(fd, wanted - len(head), len(head))
        if not more:
            raise BadUpdate(f"the object ends after {len(head)} of its {wanted} header bytes")
        head += more
    return head


def check_size(size: int, limits: ContentLimits) -> None:
    """Refuse an object longer than the limit."""
    if not 0 <= size <= limits.object_bytes:
        raise BadUpdate(f"an object of {size} bytes is over the limit of {limits.object_bytes}")


def header_size(head: bytes, size: int, limits: ContentLimits) -> int:
    """Return the offset of the first data byte.

    Raises:
        BadUpdate: the header's length is impossible or over the limit.
    """
    if size < 10 or len(head) < 8:
        raise BadUpdate(f"an object of {size} bytes is too short for a header")
    (length,) = struct.unpack_from("<Q", head)
    if length > limits.header_bytes:
        raise BadUpdate(f"a header of {length} bytes is over the limit of {limits.header_bytes}")
    if 8 + length > size:
        raise BadUpdate(f"a header of {length} bytes does not fit in an object of {size}")
    return 8 + int(length)


def parse_table(head: bytes, size: int, limits: ContentLimits) -> SafeTable:
    """Return the checked header of a file of ``size`` bytes that begins with ``head``.

    Raises:
        BadUpdate: anything a careful writer would not have written.
    """
    check_size(size, limits)
    start = header_size(head, size, limits)
    if len(head) < start:
        raise BadUpdate("the header is cut short")
    if head[8:9] != b"{":
        raise BadUpdate("the header must begin with '{'")
    table = strict_json(head[8:start], "the header")
    metadata = _metadata(table.pop("__metadata__", {}))
    if len(table) > limits.tensors:
        raise BadUpdate(f"{len(table)} tensors are over the limit of {limits.tensors}")
    tensors = sorted((_tensor(name, row, start, limits) for name, row in table.items()), key=_place)
    at = start
    for tensor in tensors:
        if tensor.offset != at:
            raise BadUpdate(
                f"tensor {tensor.name[:80]!r} begins at byte {tensor.offset}, expected {at}: a gap or an overlap"
            )
        at += tensor.nbytes
    if at != size:
        raise BadUpdate(f"the tensors end at byte {at} of {size}")
    return SafeTable(tuple(tensors), metadata, start, size)


def strict_json(text: bytes | str, what: str) -> dict[str, Any]:
    """Return the JSON object in ``text``; a duplicate key anywhere in it is refused.

    Raises:
        BadUpdate: not an object, not JSON, nested too deeply, or a key twice.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BadUpdate(f"{what} is not JSON: {str(error)[:120]}") from error
    if not isinstance(value, dict):
        raise BadUpdate(f"{what} must be a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key is given twice")
    return table


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise BadUpdate("__metadata__ must map strings to strings")
    return value


def _tensor(name: str, row: object, start: int, limits: ContentLimits) -> SafeTensor:
    check_name(name, "tensor name")
    if not isinstance(row, dict) or row.keys() != {"dtype", "shape", "data_offsets"}:
        raise BadUpdate(f"tensor {name[:80]!r} must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in NUMPY:
        raise BadUpdate(f"tensor {name[:80]!r} has the unknown dtype {str(dtype)[:20]!r}")
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(_natural(d) for d in shape):
        raise BadUpdate(f"tensor {name[:80]!r} has no valid shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_natural(o) for o in offsets):
        raise BadUpdate(f"tensor {name[:80]!r} has no valid data_offsets")
    begin, end = offsets
    if _count(shape, dtype, limits) != end - begin:
        raise BadUpdate(f"tensor {name[:80]!r}: {dtype} of shape {shape} does not fill bytes {begin} to {end}")
    return SafeTensor(name, dtype, tuple(shape), start + begin, end - begin)


def check_name(name: object, what: str) -> str:
    """Return ``name`` if it is 1-1024 printable characters.

    Raises:
        BadUpdate: it is not.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise BadUpdate(f"{what} {str(name)[:80]!r} must be 1-{MAX_NAME} printable characters")
    return name


def _count(shape: list[int], dtype: str, limits: ContentLimits) -> int:
    """Return the bytes of such a tensor; the dimensions of an empty one must still make sense (numpy checks them)."""
    size = itemsize(dtype)
    for dim in shape:
        size *= max(dim, 1)
        if size > limits.object_bytes:
            raise BadUpdate(f"shape {shape} is over the limit of {limits.object_bytes} bytes")
    return 0 if 0 in shape else size


def _natural(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _place(tensor: SafeTensor) -> tuple[int, int]:
    return tensor.offset, tensor.nbytes
