"""A Flower ``RecordDict`` as one object (the layout of ``frames``), and back.

Tensor bytes go straight between the object's file and the record: no ``.npy`` in between.  What safetensors cannot
name (complex numbers, an app's own serialisation) travels as bytes, with its Flower dtype, shape and stype in the
metadata's ``foreign``.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from common.child import frames, shim
from common.child.blocks import (
    FLOWER,
    HEADER_ROOM,
    SAFETENSORS,
    Block,
    ParentObject,
    Store,
    memfd,
    whole_arena,
    write_all,
)

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
SMALL = 1024 * 1024  # bytes; an object below it is read at once and its file closed


def encode(content: RecordDict) -> tuple[int, int]:
    """Return a sealed memfd holding ``content`` and its size; the caller closes it.

    Raises:
        ValueError: two tensors would share one name.
    """
    entries, blocks, metadata = _parts(content)
    return _write_object(frames.object_header(entries, metadata), blocks)


def encode_lent(content: RecordDict) -> tuple[int, int]:
    """Return the same, perhaps not sealed: its memory is used again after ``shim.take_back``.

    Raises:
        ValueError: as ``encode``.
    """
    entries, blocks, metadata = _parts(content)
    return _write_object(frames.object_header(entries, metadata), blocks, lent=True)


def encode_on(base: ParentObject | None, content: RecordDict) -> tuple[int, int, str | None]:
    """Return the same, and the digest of ``base`` where the object rests on it.

    Raises:
        ValueError: as ``encode``.
    """
    entries, blocks, metadata = _parts(content)
    if base is None or not base.is_whole(blocks):
        return *_write_object(frames.object_header(entries, metadata), blocks), None
    return *_write_object(frames.object_header(entries, {**metadata, "base": base.digest}), []), base.digest


def _parts(content: RecordDict) -> tuple[list[frames.Entry], list[Block], dict[str, str]]:
    entries: list[frames.Entry] = []
    blocks: list[Block] = []
    records: list[list[Any]] = []
    foreign: dict[str, Any] = {}
    for name, record in content.items():
        if not isinstance(record, ArrayRecord):
            kind = "metric" if isinstance(record, MetricRecord) else "config"
            records.append([name, kind, {key: _plain(value) for key, value in record.items()}])
            continue
        records.append([name, "array", list(record)])
        for key, array in record.items():
            block, note = shim.block_of(array)
            foreign |= {f"{name}/{key}": note} if note else {}
            entries.append((f"{name}/{key}", SAFETENSORS[block.dtype], block.shape, block.nbytes))
            blocks.append(block)
    if len({entry[0] for entry in entries}) != len(entries):
        raise ValueError("two arrays of this RecordDict share one name of the form record/key")
    listing = {"records": records, **({"foreign": foreign} if foreign else {})}
    return entries, blocks, {"hansa": json.dumps(listing, separators=(",", ":"))}


def _write_object(header: bytes, blocks: list[Block], *, lent: bool = False) -> tuple[int, int]:
    arena = whole_arena(blocks)
    # A small object is copied: cheaper than 64 KiB of padding on every wire it travels.
    if arena is not None and arena.end >= SMALL and len(header) <= HEADER_ROOM:
        size = arena.end
        write_all(arena.fd, _padded(header), 0)
        arena.sent, arena.lent = True, lent
        fd = os.dup(arena.fd)
    else:
        fd = memfd("object")
        size = len(header)
        write_all(fd, header, 0)
        for block in blocks:
            block.write_to(fd, size)
            size += block.nbytes
    os.ftruncate(fd, size)
    if arena is None or not arena.lent:
        seal(fd)
    return fd, size


def seal(fd: int) -> None:
    """Make a memfd unchangeable, as the parent demands."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)


def _padded(header: bytes) -> bytes:
    """Return ``header`` grown with spaces to fill the room kept for it; safetensors allows trailing spaces."""
    room = HEADER_ROOM - 8
    return room.to_bytes(8, "little") + header[8:] + b" " * (HEADER_ROOM - len(header))


def decode(fd: int, size: int) -> RecordDict:
    """Return the records in the object ``fd``, which is taken over."""
    return decode_store(Store(fd), size)


def decode_store(store: Store, size: int, base: Store | None = None) -> RecordDict:
    """Return the records in the object of ``size`` bytes in ``store``; its arrays lie in ``base``, if it rests on one.

    The store of the arrays lives as long as one of them does.
    """
    fd = store.fd
    head = _read(fd, min(size, 4096), 0)
    need = 8 + int.from_bytes(head[:8], "little")
    if need > len(head):
        head = _read(fd, need, 0)
    table, data_at = frames.read_object_header(head)
    if base is not None:
        store, data_at = base, data_offset(base.fd)
    listing = json.loads(table["__metadata__"]["hansa"])
    foreign = listing.get("foreign", {})
    body = _read(fd, size, 0) if size < SMALL and base is None else None
    content = RecordDict()
    for name, kind, values in listing["records"]:
        if kind == "array":
            arrays = ArrayRecord()
            for key in values:
                full = f"{name}/{key}"
                block = _block(table[full], data_at, store, body)
                arrays[key] = shim.array_of(block, foreign.get(full))
            content[name] = arrays
        else:
            record = MetricRecord if kind == "metric" else ConfigRecord
            content[name] = record({key: _rich(value) for key, value in values.items()})
    return content


def data_offset(fd: int) -> int:
    """Return where the data of the object ``fd`` begins."""
    return 8 + int.from_bytes(_read(fd, 8, 0), "little")


def _block(entry: dict[str, Any], data_at: int, store: Store, body: bytes | None) -> Block:
    begin, end = entry["data_offsets"]
    dtype, shape = FLOWER[entry["dtype"]], tuple(entry["shape"])
    if body is None:
        return Block(dtype, shape, None, store, data_at + begin)
    return shim.memory_block(dtype, shape, body[data_at + begin : data_at + end])


def _read(fd: int, size: int, at: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = os.pread(fd, size - len(parts), at + len(parts))
        if not part:
            raise frames.FrameError("an object's file is shorter than announced")
        parts += part
    return bytes(parts)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _rich(value: Any) -> Any:
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    if isinstance(value, list):
        return [_rich(item) for item in value]
    return value
