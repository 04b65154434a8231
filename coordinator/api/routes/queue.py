"""The scheduler's queue: who waits why and until when, who holds what, and why it was granted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import Query

from common.errors import NotFound
from common.ids import JobId
from coordinator.api import resources, views_queue
from coordinator.api import schemas_queue as s
from coordinator.api.caller import Authenticated, Caller
from coordinator.api.routes.parts import router
from coordinator.domain.jobs import Job
from coordinator.domain.nodes import Node
from coordinator.ports.store import Tx

ROUTER = router("queue")


@ROUTER.get("/queue", operation_id="queue_get")
async def get(caller: Authenticated) -> s.QueueOut:
    """Return who waits for what, why and until when; who holds what; and why nodes are idle."""
    caller.require("system::read", resources.SYSTEM)
    found = await caller.services.queue.look()
    jobs = {one.ask.job for one in found.waiting} | {one.job for one in found.leases}
    seen, nodes = await _seen(caller, jobs)
    return views_queue.queue(found, seen, {str(node.id): node for node in nodes})


@ROUTER.get("/queue/history", operation_id="queue_history")
async def history(caller: Authenticated, query: Annotated[s.HistoryQuery, Query()]) -> s.HistoryOut:
    """Return all that is known of an ask, or of a lease's ask, and prove why it was granted."""
    caller.require("system::read", resources.SYSTEM)
    job = query.id.partition("/")[0]
    if job not in (await _seen(caller, [JobId(job)]))[0]:
        raise NotFound(f"no job {job!r} that you may see")
    found = await caller.services.queue.history(query.id)
    others = {one.job for one in found.proof.state.asks} if found.proof is not None else set()
    seen, nodes = await _seen(caller, {found.ask.job, *others})
    names = {str(node.id): node.name for node in nodes}
    return views_queue.history(found, caller.services.queue.policy, seen, names)


async def _seen(caller: Caller, jobs: Iterable[JobId]) -> tuple[frozenset[str], list[Node]]:
    """Return those of ``jobs`` that the caller may read, and the nodes that it may see."""
    sharing, wanted = await caller.sharing(), sorted(jobs)

    def look(tx: Tx) -> tuple[list[Node], list[Job]]:
        return list(tx.nodes.list()), [job for name in wanted if (job := tx.jobs.get(name)) is not None]

    nodes, records = await caller.services.store.read(look)
    readable = caller.seen("job::read", records, lambda job: resources.job(job, sharing))
    visible = caller.seen("node::read", nodes, lambda node: resources.node(node, sharing))
    return frozenset(str(job.id) for job in readable), visible
