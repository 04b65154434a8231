"""How the replies of an exchange leave the nodes: as they are, as a mean of several, or in a masked sum."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from common.privacy.protocol import LEAST as LEAST_MASKED
from coordinator.admission.privacy import mask_plan, needs_mask, takes_mask, unfit_for_masks
from coordinator.domain.jobs import Job
from coordinator.domain.nodes import Node
from coordinator.ports.store import Store
from coordinator.services.calls import LEAST, Call, unfit_for_means
from coordinator.services.journal import Journal


class JobTerms(Protocol):
    """What the modes of a job's exchanges depend on."""

    job: Job
    journal: Journal
    single_replies: bool  # whether the federation lets apps see replies one by one
    minimum_mode: str  # of the federation


async def settle(run: JobTerms, store: Store, call: Call) -> tuple[Call, str]:
    """Return the call with its mode, and why it is refused instead ("" = it is not); no node has been asked yet."""
    job, spec = run.job, run.job.spec
    if not run.single_replies:
        if why := unfit_for_means(call):
            return call, f"federation {job.federation} gives apps only the mean of all replies, and {why}"
        call = replace(call, least=LEAST)
    unfit = unfit_for_masks(call.asked)
    if unfit and (who := needs_mask(spec, run.minimum_mode)):
        return call, f"{who} wants masked sums (privacy = 'mask'), and this exchange cannot be one: {unfit}"
    if unfit or not takes_mask(spec, run.minimum_mode):
        return call, ""
    # From the store, not from who is connected: the same after a restart.
    nodes = await store.read(lambda tx: [tx.nodes.get(instruction.node) for instruction in call.instructions])
    plan = mask_plan(spec, [_rows(node, job) for node in nodes])
    return replace(call, mask=plan, masked=run.journal.masked, least=max(call.least, LEAST_MASKED)), ""


def _rows(node: Node | None, job: Job) -> int:
    """Return how many rows a node said that it shares into the job's federation."""
    named, report = frozenset(job.spec.datasets), node.report if node is not None else None
    shared = report.datasets if report is not None else ()
    return sum(d.rows for d in shared if d.federation == job.federation and (not named or d.name in named))
