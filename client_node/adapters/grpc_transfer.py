"""Files over the link: resumed at an offset, tried again across disconnects.

gRPC's asyncio client loses the status of a call that the server ends while we write (it says INTERNAL); such a call is
tried again, and its offset is asked first: that answer carries the reason.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio

from client_node.adapters.grpc_channel import Channel, LinkOptions, translated
from client_node.adapters.grpc_session import Session
from client_node.adapters.partial_file import PartialFile
from common.errors import BadSignature, PlatformError
from common.failpoints import failpoint
from common.units import CHUNK
from common.wire import hansa_node_pb2 as pb
from common.wire.threads import ChunkWriter, begin, in_thread, settled

AHEAD = 4  # chunks a read
TRIES_WRONG = 2  # times the same content may come damaged
_TRANSIENT = {"disk_full", "spool_full", "too_many_calls"}  # limits that pass by themselves
T = TypeVar("T")


class Transfers:
    """Downloads and uploads on whatever connection is live."""

    def __init__(
        self,
        live: Callable[[], Awaitable[Session]],
        lost: Callable[[Session], bool],
        pool: Executor,
        options: LinkOptions,
        chance: random.Random,
    ) -> None:
        """``live`` waits for a connection; ``lost`` says whether that one is over."""
        self._live, self._lost, self._pool = live, lost, pool
        self._options, self._chance = options, chance

    async def download(self, request: pb.DownloadRequest, size: int, target: Path, over: Path | None = None) -> None:
        """Fetch the content to ``target``; see the port ``Link``."""
        wrong = 0
        while wrong < TRIES_WRONG:
            file = PartialFile(target, request.digest, size, over)
            try:
                request.offset = await in_thread(self._pool, file.begin)
                if request.offset < size or size == 0:
                    await self._retried(partial(self._fetch, request, file))
                if await in_thread(self._pool, file.finish):
                    return
            except BadSignature:
                file.drop()
            finally:
                file.close()
            wrong += 1
        raise BadSignature(f"what came is not the content {request.digest}", code="wrong_digest")

    async def upload(self, key: pb.UploadKey, path: Path, last: asyncio.Event | None = None) -> pb.UploadResult:
        """Send the update in ``path``; see the port ``Link``."""
        tries, wrong = itertools.count(), 0
        free = last or _set()

        async def send(channel: Channel) -> pb.UploadResult:
            first = next(tries) == 0  # one chunk is sent as fast as its offset is asked
            return await self._send(channel, key, path, free, ask=not first or key.size > CHUNK)

        while True:
            try:
                return await self._retried(send)
            except BadSignature:
                wrong += 1
                if wrong >= TRIES_WRONG:
                    raise

    async def _retried(self, act: Callable[[Channel], Awaitable[T]]) -> T:
        """Run ``act`` on the live connection until it succeeds or fails for good."""
        failures = 0
        while True:
            session = await self._live()
            try:
                with session.used() as channel:
                    return await act(channel)
            except PlatformError as error:
                if not error.retryable and error.code not in _TRANSIENT:
                    raise
                failures += 1
            except asyncio.CancelledError:
                # Closing a channel cancels its calls, and gRPC says so in the same way as our caller would.
                if cancelled_by_caller() or not self._lost(session):
                    raise
            pause = min(self._options.longest_pause_s, self._options.first_pause_s * 2 ** min(failures, 16))
            await asyncio.sleep(pause * self._chance.uniform(0.5, 1.0))

    async def _fetch(self, request: pb.DownloadRequest, file: PartialFile, channel: Channel) -> None:
        request.offset = file.offset
        call: Any = channel.download(request)
        writer = ChunkWriter(self._pool, file.write)
        try:
            while isinstance(chunk := await call.read(), bytes):
                await writer.put(chunk)
        except grpc.aio.AioRpcError as error:
            raise translated(error) from error
        finally:
            call.cancel()
            await writer.flush()

    async def _send(
        self, channel: Channel, key: pb.UploadKey, path: Path, last: asyncio.Event, *, ask: bool
    ) -> pb.UploadResult:
        try:
            offset = 0
            if ask:
                held = await channel.upload_offset(key, timeout=self._options.call_s)
                if held.done:
                    return pb.UploadResult(accepted=True, code="done", message="nothing more is needed")
                offset = held.offset
            call: Any = channel.upload(
                metadata=(
                    ("hansa-task", key.task),
                    ("hansa-digest", key.digest),
                    ("hansa-size", str(key.size)),
                    ("hansa-offset", str(offset)),
                )
            )
            try:
                await self._push(call, path, offset, key.size, last)
                result: pb.UploadResult = await call
            finally:
                call.cancel()
        except grpc.aio.AioRpcError as error:
            raise translated(error) from error
        return result

    async def _push(self, call: Any, path: Path, offset: int, size: int, last: asyncio.Event) -> None:  # noqa: ANN401 - grpc is untyped
        """Write the file from ``offset`` on, to its ``size``; a call that ends early says why in its status."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        reading = begin(self._pool, _read, fd, offset)
        try:
            while chunks := await settled(reading):
                offset += sum(map(len, chunks))
                reading = begin(self._pool, _read, fd, offset)
                if offset >= size:
                    await last.wait()
                for chunk in chunks:
                    await call.write(chunk)
                    failpoint("upload_mid_chunk")
            await last.wait()
            await call.done_writing()
        except asyncio.InvalidStateError:
            pass  # the call is over: its status says why
        finally:  # a read that still runs must not find its descriptor given to another file
            reading.add_done_callback(lambda _: os.close(fd))


def cancelled_by_caller() -> bool:
    """Say whether this task was cancelled, as against a call whose channel was closed: both raise CancelledError."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def _read(fd: int, at: int) -> list[bytes]:
    chunks = []
    for _ in range(AHEAD):
        chunk = os.pread(fd, CHUNK, at)
        if not chunk:
            break
        chunks.append(chunk)
        at += len(chunk)
    return chunks
