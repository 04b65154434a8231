"""Content out: a local file as raw chunks from an offset, read ahead in a thread."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import BadInput
from common.ids import digest
from common.units import CHUNK
from common.wire import hansa_node_pb2 as pb
from common.wire.threads import begin, settled
from coordinator.ports.link import LinkEvents
from coordinator.rpc.convert import text
from coordinator.rpc.gate import Gate
from coordinator.rpc.limits import LinkLimits
from coordinator.rpc.pace import Pace
from coordinator.rpc.peer import Peer

if TYPE_CHECKING:
    import grpc

AHEAD = 4  # chunks a read


class Downloads:
    """Sends files that the services let a node have."""

    def __init__(self, events: LinkEvents, gate: Gate, pool: Executor, limits: LinkLimits) -> None:
        """Ask ``events`` and ``gate``, read with the threads of ``pool``."""
        self._events, self._gate, self._pool, self._limits = events, gate, pool, limits

    async def send(self, peer: Peer, request: pb.DownloadRequest, context: grpc.aio.ServicerContext) -> None:
        """Stream the content from ``request.offset`` on.

        Raises:
            NotFound: there is no such content around this node. PolicyDenied: it is another node's.
            BadInput: the offset is beyond its end. LeaseLost: the node does not read.
        """
        what = digest(request.digest)
        offered = await self._events.may_download(peer.id, what, text(request.job), text(request.model))
        self._gate.download(peer, what, offered)
        fd = _open(offered.path, request.offset)
        reading = begin(self._pool, _read, fd, request.offset)
        at = request.offset
        try:
            async with Pace(self._limits) as pace:
                while chunks := await settled(reading):
                    at += sum(map(len, chunks))
                    reading = begin(self._pool, _read, fd, at)
                    await _write(context, chunks, pace)
        finally:  # a read that still runs must not find its descriptor given to another file
            reading.add_done_callback(lambda _: os.close(fd))


async def _write(context: grpc.aio.ServicerContext, chunks: list[bytes], pace: Pace) -> None:
    for chunk in chunks:
        await context.write(chunk)
        pace.step(len(chunk))


def _open(path: Path, offset: int) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    size = os.fstat(fd).st_size
    if offset > size:
        os.close(fd)
        raise BadInput(f"offset {offset} is beyond the content's {size} bytes", code="offset_mismatch")
    return fd


def _read(fd: int, at: int) -> list[bytes]:
    chunks = []
    for _ in range(AHEAD):
        chunk = os.pread(fd, CHUNK, at)
        if not chunk:
            break
        chunks.append(chunk)
        at += len(chunk)
    return chunks
