"""Tensors as blocks of raw bytes, in memory or in a file, so that a model is copied as seldom as possible.

Rules:
    1. A block never changes once it is made; ``private()`` gives the reader an array of its own.
    2. A block read from its parent's object stays in that file and is mapped privately when it is large.
    3. A block that the app makes is written once, straight behind the place kept for the header in the memfd that may
       become the next outgoing object (the *arena*), so that sending it costs one header.

Out of scope: what a record is, and Flower.  Standard library and numpy only.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAFETENSORS = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
}  # fmt: skip
FLOWER = {name: flower for flower, name in SAFETENSORS.items()}
MAP_FROM = 256 * 1024  # bytes; below it a copy is cheaper than a mapping
HEADER_ROOM = 64 * 1024  # bytes kept for the header at the front of an arena; sparse until it is sent
ARENA_WASTE = 64 * 1024 * 1024  # bytes of dead blocks an arena may hold beside its live ones

Raw = NDArray[Any]


_STORAGE = {name: np.dtype("uint16" if name == "bfloat16" else name) for name in SAFETENSORS}
_NAMES = {dtype: dtype.name for dtype in _STORAGE.values()}  # ``dtype.name`` costs a microsecond, and models have many


def storage_dtype(name: str) -> np.dtype[Any]:
    """Return the numpy dtype that holds Flower dtype ``name`` (bfloat16 as its 16 bits)."""
    return _STORAGE[name]


def flower_dtype(array: Raw) -> str:
    """Return Flower's name of an array's dtype, "" if a block cannot hold it."""
    return _NAMES.get(array.dtype) or _NAMES.get(array.dtype.newbyteorder("="), "")


class Store:
    """A file that blocks live in; closed with the last of them."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.fd)  # bound early: the last store may outlive the modules


class _View(mmap.mmap):
    """A private mapping that keeps its block, and so the block's file, from being used again."""

    block: Block


class Block:
    """The raw little-endian bytes of one tensor, with its Flower dtype and shape."""

    __slots__ = ("__weakref__", "_memory", "dtype", "nbytes", "offset", "shape", "store")

    def __init__(
        self, dtype: str, shape: tuple[int, ...], memory: Raw | None, store: Store | None = None, offset: int = 0
    ) -> None:
        self.dtype = dtype
        self.shape = shape
        self.nbytes = math.prod(shape) * _STORAGE[dtype].itemsize
        self._memory = memory
        self.store = store
        self.offset = offset

    def __del__(self) -> None:
        if isinstance(self.store, Arena):
            self.store.forget(self.nbytes)

    def private(self) -> Raw:
        """Return the tensor as a fresh writable array in its storage dtype."""
        dtype = storage_dtype(self.dtype)
        if self._memory is not None:
            return self._memory.copy()
        if self.nbytes >= MAP_FROM and self.offset % dtype.itemsize == 0:
            return self._mapped(dtype)
        array = np.empty(self.shape, dtype)
        if self.nbytes:
            self._read_into(bytes_of(array))
        return array

    def peek(self) -> Raw:
        """Return the tensor for reading only; copied no more than needed."""
        return self._memory if self._memory is not None else self.private()

    def _mapped(self, dtype: np.dtype[Any]) -> Raw:
        store = self._stored()
        skip = self.offset % mmap.PAGESIZE
        view = _View(
            store.fd,
            self.nbytes + skip,
            flags=mmap.MAP_PRIVATE,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
            offset=self.offset - skip,
        )
        view.block = self
        return np.frombuffer(view, dtype, self.nbytes // dtype.itemsize, skip).reshape(self.shape)

    def _read_into(self, target: memoryview) -> None:
        fd, at = self._stored().fd, self.offset
        while target:
            got = os.preadv(fd, [target], at)
            if got == 0:
                raise EOFError("an object's file is shorter than its header says")
            target, at = target[got:], at + got

    def write_to(self, fd: int, at: int) -> None:
        """Write the bytes into ``fd`` at ``at``."""
        if not self.nbytes:
            return
        _write(fd, bytes_of(self.peek()), at)

    def _stored(self) -> Store:
        if self.store is None:
            raise ValueError("a block lives in memory or in a file")
        return self.store


@dataclass(frozen=True)
class ParentObject:
    """An object of the parent that messages may rest on: its data begins at ``data_at`` of ``size`` bytes."""

    store: Store
    digest: str
    data_at: int
    size: int

    def is_whole(self, blocks: list[Block]) -> bool:
        """Return whether ``blocks``, in this order, are all the data."""
        at = self.data_at
        for block in blocks:
            if block.store is not self.store or block.offset != at:
                return False
            at += block.nbytes
        return bool(blocks) and at == self.size


class Arena(Store):
    """A memfd that new blocks are appended to until it is sent.

    ``live`` counts the bytes of blocks still in use; when it falls to nothing the same pages are written again.
    """

    def __init__(self) -> None:
        super().__init__(memfd("arena"))
        self.end = HEADER_ROOM
        self.live = 0
        self.sent = False
        self.lent = False  # sent, and ours again once the parent has read it

    def add(self, dtype: str, array: Raw) -> Block:
        """Return a block of ``array``'s bytes, written at the end."""
        offset = self.end
        if array.nbytes:
            _write(self.fd, bytes_of(array), offset)
        self.end += array.nbytes
        self.live += array.nbytes
        return Block(dtype, array.shape, None, self, offset)

    def forget(self, nbytes: int) -> None:
        """Note that a block of ``nbytes`` is no longer used."""
        self.live -= nbytes
        if self.live == 0 and not self.sent:
            self.end = HEADER_ROOM

    def take_back(self) -> bool:
        """Write from the start again, if this was lent and no block of it is in use; return whether that is so."""
        if not self.lent or self.live:
            return False
        self.end, self.sent, self.lent = HEADER_ROOM, False, False
        return True

    @property
    def wasteful(self) -> bool:
        """Return whether dead blocks hold more memory than they should."""
        return self.end - HEADER_ROOM > 2 * self.live + ARENA_WASTE


class Maker:
    """Makes blocks of the app's arrays: in an arena, or in memory where nothing is ever sent (simulation)."""

    def __init__(self, *, in_files: bool) -> None:
        self.in_files = in_files
        self._arena: Arena | None = None

    def block(self, array: Raw, dtype: str = "") -> Block:
        """Return a block with a copy of ``array`` as it is now; ``dtype`` names what numpy cannot (bfloat16)."""
        name = dtype or flower_dtype(array)
        if not self.in_files:
            return Block(name, array.shape, array.astype(_STORAGE[name], order="C", copy=True))
        if self._arena is None or self._arena.sent or self._arena.wasteful:
            self._arena = Arena()
        return self._arena.add(name, _little(array))

    def take_back(self) -> None:
        """Use what was lent again: the parent has read it."""
        if self._arena is not None and self._arena.lent and not self._arena.take_back():
            self._arena = None


def _little(array: Raw) -> Raw:
    """Return ``array`` C-contiguous and in native order, copied only if it is not."""
    if array.flags.c_contiguous and array.dtype.isnative:
        return array
    return array.astype(array.dtype.newbyteorder("="), order="C")


def bytes_of(array: Raw) -> memoryview:
    """Return the bytes of a C-contiguous array, without a copy."""
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # a numpy array is a buffer


def whole_arena(blocks: list[Block]) -> Arena | None:
    """Return the unsent arena whose content is exactly ``blocks`` in this order, if there is one."""
    arena = blocks[0].store if blocks else None
    if not isinstance(arena, Arena) or arena.sent:
        return None
    at = HEADER_ROOM
    for block in blocks:
        if block.store is not arena or block.offset != at:
            return None
        at += block.nbytes
    return arena if at == arena.end else None


def memfd(name: str) -> int:
    """Return a new memfd that can be sealed."""
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def write_all(fd: int, data: bytes, at: int) -> None:
    """Write ``data`` into ``fd`` at ``at``."""
    _write(fd, memoryview(data), at)


def _write(fd: int, data: memoryview, at: int) -> None:
    while data:
        done = os.pwrite(fd, data, at)
        data, at = data[done:], at + done
