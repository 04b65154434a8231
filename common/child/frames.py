"""The frame between a parent and its child, and the object layout both write.  Standard library only.

A *frame* is one JSON object with file descriptors beside it, on an inherited ``AF_UNIX`` stream socketpair:
``4-byte big-endian length, that many bytes of UTF-8 JSON``; descriptors ride (SCM_RIGHTS) on the first byte of the
length.  Tensors never travel in the JSON: they are in *objects*, each a sealed memfd (child to parent) or a read-only
file (parent to child) whose whole content is one safetensors file.

An *object* carries one Flower ``RecordDict``: tensor ``"<record>/<key>"`` for each array, and in ``__metadata__`` one
entry ``hansa`` = JSON ``{"records": [[name, "array"|"metric"|"config", keys-or-values], ...]}`` in the record order:
for "array" the list of keys in order, for "metric"/"config" an object of values (bytes as ``{"b64": "..."}``; lists
stay lists), and for tensors that safetensors cannot name ``"foreign"``: name -> Flower's [dtype, shape, stype].  So one
SHA-256 covers tensors, metrics and configuration alike.

An object may *rest on* another, its *base*: it is a header alone, whose tensors are, to the byte, all the data of the
base; ``__metadata__`` names the base's SHA-256 as ``base``.  So a model that a ServerApp sends out as it came from the
fold is neither copied nor hashed again, and a node that has it already does not fetch it twice.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Any

MAX_FRAME = 8 * 1024 * 1024  # bytes of JSON
MAX_FDS = 250  # the kernel's SCM_MAX_FD is 253
MAX_HEADER = 32 * 1024 * 1024  # bytes of a safetensors header we read or write
HEADER_ALIGN = 64  # tensor data begins on a cache line, so that views need no copy

Entry = tuple[str, str, tuple[int, ...], int]  # name, safetensors dtype, shape, bytes


class FrameError(Exception):
    """The other end sent something that is no frame; the conversation is over."""


def send(sock: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Write one frame; blocks until the kernel has it all."""
    body = json.dumps(message, separators=(",", ":"), allow_nan=True).encode()
    if len(body) > MAX_FRAME or len(fds) > MAX_FDS:
        raise FrameError(f"frame of {len(body)} bytes with {len(fds)} descriptors is over the limit")
    data = struct.pack(">I", len(body)) + body
    if fds:
        sent = socket.send_fds(sock, [data[:1]], list(fds))
        data = data[sent:]
    sock.sendall(data)


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return the next frame and its descriptors (now ours, close-on-exec), or None at a clean end of file.

    Raises:
        FrameError: a torn, oversized or malformed frame.
    """
    first, fds = _receive_first(sock)
    if not first:
        return None
    try:
        size = struct.unpack(">I", first + _exactly(sock, 3))[0]
        if size > MAX_FRAME:
            raise FrameError(f"frame of {size} bytes is over the limit of {MAX_FRAME}")
        message = json.loads(_exactly(sock, size))
        if not isinstance(message, dict):
            raise FrameError("a frame must be a JSON object")
    except (FrameError, ValueError, RecursionError) as error:
        for fd in fds:
            os.close(fd)
        raise error if isinstance(error, FrameError) else FrameError("a frame must be JSON") from error
    return message, fds


def _receive_first(sock: socket.socket) -> tuple[bytes, list[int]]:
    space = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
    data, ancillary, _flags, _addr = sock.recvmsg(1, space, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)


def _exactly(sock: socket.socket, size: int) -> bytes:
    parts = bytearray(size)
    view = memoryview(parts)
    while view:
        got = sock.recv_into(view)
        if got == 0:
            raise FrameError("the other end closed in mid-frame")
        view = view[got:]
    return bytes(parts)


def object_header(entries: Iterable[Entry], metadata: dict[str, str]) -> bytes:
    """Return the safetensors header (with its 8-byte length) for ``entries`` laid out in the given order."""
    table: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    for name, dtype, shape, size in entries:
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    body = json.dumps(table, separators=(",", ":")).encode()
    body += b" " * (-(8 + len(body)) % HEADER_ALIGN)
    return struct.pack("<Q", len(body)) + body


def read_object_header(head: bytes) -> tuple[dict[str, Any], int]:
    """Return the header table of an object that begins with ``head`` and the offset of its first data byte.

    ``head`` must hold the whole header.  This is the child's reader and trusts its parent; the parent reads what a
    child wrote with ``common.tensors.content``, which trusts nothing.
    """
    (size,) = struct.unpack("<Q", head[:8])
    if size > MAX_HEADER or len(head) < 8 + size:
        raise FrameError(f"object header of {size} bytes is over the limit or cut short")
    return json.loads(head[8 : 8 + size]), 8 + size
