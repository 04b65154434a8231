"""Updates in: raw chunks into the spool, then to the services.

The chunks of one transfer are hashed and written by at most one pool thread at a time, several chunks a hop: while it
works, the next ones gather.  So the event loop only moves references.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from common.errors import BadInput, QuotaExceeded
from common.failpoints import failpoint
from common.ids import Digest, TaskId, digest
from common.units import CHUNK, KIB, Bytes
from common.wire import hansa_node_pb2 as pb
from common.wire.threads import ChunkWriter, in_thread
from coordinator.ports.link import LinkEvents, SpooledUpdate
from coordinator.rpc.convert import task_of
from coordinator.rpc.gate import Gate
from coordinator.rpc.limits import LinkLimits
from coordinator.rpc.pace import Pace
from coordinator.rpc.peer import Peer
from coordinator.rpc.spool import Incoming, Spool

_SMALL = Bytes(16 * KIB)  # a transfer may have one chunk for each of these, and a few more


@dataclass(frozen=True)
class Header:
    """What an upload announces in its metadata."""

    task: TaskId
    digest: Digest
    size: int
    offset: int


@dataclass
class _Running:
    task: asyncio.Task[object]
    touched: float


class Uploads:
    """Receives updates; one at a time for each (node, task, digest)."""

    def __init__(self, events: LinkEvents, gate: Gate, spool: Spool, pool: Executor, limits: LinkLimits) -> None:
        """Spool into ``spool`` with the threads of ``pool``; ask ``gate``, tell ``events``."""
        self._events, self._gate, self._spool, self._pool, self._limits = events, gate, spool, pool, limits
        self._running: dict[Path, _Running] = {}

    async def offset(self, peer: Peer, key: pb.UploadKey) -> pb.UploadOffset:
        """Say how much of an update is held.

        Raises:
            NotFound, QuotaExceeded: as ``LinkEvents.may_upload``. PolicyDenied: the task is another node's.
        """
        task, what = task_of(key.task), digest(key.digest)
        self._check_size(key.size)
        if not await self._wanted(peer, task, what, key.size):
            return pb.UploadOffset(done=True)
        path = self._spool.path(peer.id, task, what)
        held = await in_thread(self._pool, self._spool.held, path)
        return pb.UploadOffset(offset=min(held, key.size))

    async def receive(self, peer: Peer, header: Header, chunks: AsyncIterator[bytes]) -> pb.UploadResult:
        """Take one update in and return the services' verdict.

        Raises:
            BadSignature: it is not what its digest names; it is dropped.
            QuotaExceeded: longer than announced or allowed, or no room.
            LeaseLost: ``offset`` is beyond what is held, or it came too slowly.
            NotFound, PolicyDenied: as ``offset``.
        """
        self._check_size(header.size)
        path = self._spool.path(peer.id, header.task, header.digest)
        await self._turn(path)
        mine = _Running(_this_task(), _loop_time())
        self._running[path] = mine
        try:
            if not await self._wanted(peer, header.task, header.digest, header.size):
                return pb.UploadResult(accepted=True, code="done", message="nothing more is needed")
            await self._spool_chunks(path, header, chunks, mine)
        finally:
            del self._running[path]
        failpoint("update_spooled")
        update = SpooledUpdate(header.task, peer.id, header.digest, header.size, path)
        accepted, code, message = await self._tell(update)
        return pb.UploadResult(accepted=accepted, code=code, message=message)

    async def _wanted(self, peer: Peer, task: TaskId, what: Digest, size: int) -> bool:
        awaited = await self._events.may_upload(peer.id, task, what, size)
        self._gate.upload(peer, task, awaited)
        return awaited.wanted

    async def _tell(self, update: SpooledUpdate) -> tuple[bool, str, str]:
        accepted = False
        try:
            accepted, code, message = await self._events.update_received(update)
        finally:
            if not accepted:
                await in_thread(self._pool, self._spool.release, update.path)
        return accepted, code, message

    async def _turn(self, path: Path) -> None:
        """Wait until nobody else sends this update; cut one that has fallen silent (a half-dead connection)."""
        while (other := self._running.get(path)) is not None:
            if _loop_time() - other.touched > self._limits.takeover_s:
                other.task.cancel()
            await asyncio.wait({other.task}, timeout=0.5)

    async def _spool_chunks(self, path: Path, header: Header, chunks: AsyncIterator[bytes], mine: _Running) -> None:
        incoming = self._spool.incoming(path, header.digest, header.size)
        try:
            await in_thread(self._pool, incoming.begin, header.offset)
            async with Pace(self._limits) as pace:
                await self._take(incoming, chunks, mine, pace)
            await in_thread(self._pool, incoming.finish)
        except QuotaExceeded:
            incoming.close()
            self._spool.drop(path)  # whoever breaks a limit does not keep the room
            raise
        finally:
            incoming.close()

    async def _take(self, incoming: Incoming, chunks: AsyncIterator[bytes], mine: _Running, pace: Pace) -> None:
        left = incoming.size - incoming.offset
        allowed = 16 + left // _SMALL
        writer = ChunkWriter(self._pool, incoming.write)
        try:
            async for chunk in chunks:
                mine.touched = pace.step(len(chunk))
                left, allowed = left - len(chunk), allowed - 1
                _check_chunk(chunk, left, allowed)
                await writer.put(chunk)
        finally:  # also when the node is cut off: what has come need not come again
            await writer.flush()

    def _check_size(self, size: int) -> None:
        if not 0 < size <= self._limits.update_bytes:
            raise QuotaExceeded(f"an update of {size} bytes is over the limit of {self._limits.update_bytes}")


def header_of(metadata: Sequence[tuple[str, str | bytes]]) -> Header:
    """Return the header in a call's metadata.

    Raises:
        BadInput: it lacks a field or one is malformed.
    """
    found = {key: value for key, value in metadata if isinstance(value, str)}
    try:
        size, offset = (_number(found[key]) for key in ("hansa-size", "hansa-offset"))
        return Header(task_of(found["hansa-task"]), digest(found["hansa-digest"]), size, offset)
    except KeyError as error:
        raise BadInput(f"an upload needs the metadata {error}") from error


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise BadInput(f"{text[:40]!r} is no size")
    return int(text)


def _check_chunk(chunk: bytes, left: int, allowed: int) -> None:
    if not 0 < len(chunk) <= CHUNK:
        raise QuotaExceeded(f"a chunk has 1 to {CHUNK} bytes, not {len(chunk)}", code="bad_chunk")
    if left < 0:
        raise QuotaExceeded("more bytes came than the upload announced", code="longer_than_announced")
    if allowed < 0:
        raise QuotaExceeded("the update comes in too many small chunks", code="small_chunks")


def _this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - gRPC runs every call as a task
    return task


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
