"""Frames (``common.child.frames``) on an event loop, written for a child that may send anything.

Descriptors are taken only with the first byte of a frame; what a child attaches elsewhere is dropped by the kernel.
"""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from common.child import frames

SEND_TIMEOUT_S = 60.0  # a child that does not read is not working


class Channel:
    """One end of the socketpair, non-blocking."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Write one frame.

        Raises:
            OSError: the other end is gone.
            TimeoutError: it does not read.
        """
        body = json.dumps(message, separators=(",", ":")).encode()
        if len(body) > frames.MAX_FRAME or len(fds) > frames.MAX_FDS:
            raise frames.FrameError(f"frame of {len(body)} bytes with {len(fds)} descriptors is over the limit")
        data = struct.pack(">I", len(body)) + body
        async with asyncio.timeout(SEND_TIMEOUT_S):
            if fds:
                while not self._send_first(data[:1], fds):
                    await self._ready(self._loop.add_writer, self._loop.remove_writer)
                data = data[1:]
            await self._loop.sock_sendall(self._sock, data)

    def _send_first(self, first: bytes, fds: Sequence[int]) -> bool:
        try:
            return socket.send_fds(self._sock, [first], list(fds)) == 1
        except BlockingIOError:
            return False

    async def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """Return the next frame and its descriptors, or None at the end.

        Raises:
            FrameError: what came is no frame.
            OSError: the connection broke.
        """
        first, fds = await self._receive_first()
        if not first:
            return None
        try:
            (size,) = struct.unpack(">I", first + await self._exactly(3))
            if size > frames.MAX_FRAME:
                raise frames.FrameError(f"frame of {size} bytes is over the limit of {frames.MAX_FRAME}")
            return _parsed(await self._exactly(size)), fds
        except BaseException:
            close_all(fds)
            raise

    async def _receive_first(self) -> tuple[bytes, list[int]]:
        while (got := self._try_first()) is None:
            await self._ready(self._loop.add_reader, self._loop.remove_reader)
        data, ancillary, flags = got
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        if flags & socket.MSG_CTRUNC:
            close_all(list(fds))
            raise frames.FrameError(f"a frame came with more than {frames.MAX_FDS} descriptors")
        return data, list(fds)

    def _try_first(self) -> tuple[bytes, list[tuple[int, int, bytes]], int] | None:
        space = socket.CMSG_SPACE(frames.MAX_FDS * array.array("i").itemsize)
        try:
            return self._sock.recvmsg(1, space, socket.MSG_CMSG_CLOEXEC)[:3]
        except BlockingIOError:
            return None

    async def _exactly(self, size: int) -> bytes:
        parts = bytearray(size)
        view = memoryview(parts)
        while view:
            got = await self._loop.sock_recv_into(self._sock, view)
            if got == 0:
                raise frames.FrameError("the other end closed in mid-frame")
            view = view[got:]
        return bytes(parts)

    async def _ready(self, add: Callable[..., Any], remove: Callable[..., Any]) -> None:
        event = asyncio.Event()
        add(self._sock, event.set)
        try:
            await event.wait()
        finally:
            remove(self._sock)

    async def drained(self) -> None:
        """Return once nobody holds the other end any more."""
        while await self._loop.sock_recv(self._sock, 1 << 16):
            pass

    def close(self) -> None:
        """Close our end."""
        self._sock.close()


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise frames.FrameError("a frame must be JSON") from error
    if not isinstance(message, dict):
        raise frames.FrameError("a frame must be a JSON object")
    return message


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors that nobody wants."""
    for fd in fds:
        os.close(fd)
