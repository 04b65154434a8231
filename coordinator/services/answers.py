"""Frames that answer a ServerApp's calls."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from common.child.frames import MAX_FDS
from common.errors import AppFailed
from common.ids import Digest, TenantId
from common.sandbox import Child
from common.units import MIB
from coordinator.domain.exchanges import Exchange, ExchangeKind, Reply
from coordinator.domain.jobs import Job
from coordinator.ports.blobs import BlobStore
from coordinator.services.collect import Kept
from coordinator.services.journal import Journal

_WORTH_RESTING = MIB  # a smaller one is copied sooner than fetched apart


async def send_replies(
    child: Child, job: Job, row: Exchange, kept: Sequence[Kept], journal: Journal, told: Told
) -> None:
    """Answer with the replies of ``row``; ``kept`` are their objects, closed afterwards."""
    try:
        if len(kept) > MAX_FDS:
            raise AppFailed(f"{len(kept)} single replies are over the limit of {MAX_FDS}", reason="refused")
        frame = _frame(job, row, [k.size for k in kept], journal)
        if row.fold and len(kept) == 1 and kept[0].size >= _WORTH_RESTING:
            told.keep(kept[0])
            frame["base"] = kept[0].digest
        await child.send(frame, [k.fd for k in kept])
    finally:
        for one in kept:
            os.close(one.fd)


class Told:
    """The last mean that one life of an app was told: what it sends on unchanged may rest on it."""

    def __init__(self) -> None:
        self.last: Kept | None = None

    def keep(self, mean: Kept) -> None:
        """Remember ``mean``, through a descriptor of our own."""
        self.close()
        self.last = replace(mean, fd=os.dup(mean.fd))

    def close(self) -> None:
        """Forget it; idempotent."""
        if self.last is not None:
            os.close(self.last.fd)
        self.last = None


async def recorded_objects(blobs: BlobStore, tenant: TenantId, row: Exchange) -> list[Kept]:
    """Open the objects of a recorded row again, in order."""
    kept: list[Kept] = []
    try:
        for reply in row.replies:
            if reply.digest is not None:
                path = await blobs.open(tenant, reply.digest)
                fd = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
                kept.append(Kept(Digest(reply.digest), reply.size, fd))
    except BaseException:
        for one in kept:
            os.close(one.fd)
        raise
    return kept


def _frame(job: Job, row: Exchange, sizes: list[int], journal: Journal) -> dict[str, Any]:
    ids = {entry.node: entry.flower_node_id for entry in job.roster}
    first = next((ids[i.node] for i in row.included if i.node in ids), job.roster[0].flower_node_id)
    at = 0
    replies = []
    for reply in row.replies:
        frame = _reply(reply, ids[reply.node] if reply.node is not None else first, at)
        if row.kind is ExchangeKind.PULL:
            frame["id"] = journal.pull_id(reply)
        replies.append(frame)
        at += reply.digest is not None
    return {"op": "replies", "replies": replies, "objects": sizes}


def _reply(reply: Reply, src: int, index: int) -> dict[str, Any]:
    if reply.digest is None:
        return {"slot": reply.slot, "src": src, "object": None, "error": [reply.error_code, reply.error]}
    return {"slot": reply.slot, "src": src, "object": index, "error": None}
