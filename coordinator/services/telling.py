"""What people read of an exchange in the job's log."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.domain.denials import Denial
from coordinator.domain.jobs import Job
from coordinator.domain.nodes import Node
from coordinator.services.around import Around
from coordinator.services.calls import Call
from coordinator.services.closing import Closed
from coordinator.services.exchange import LiveExchange

_EVENTS = {"train": "round_aggregated", "evaluate": "evaluated"}


def lacking(around: Around, job: Job, sentence: str, denied: Sequence[tuple[Node, Sequence[Denial]]]) -> None:
    """Note that too few nodes can take part, with everything against each."""
    facts = [{"node": n.name, "code": d.code, "message": d.message} for n, denials in denied for d in denials]
    around.feed.note(job.id, "job_waiting", sentence=sentence, stalled=True, denials=facts)


def started(around: Around, job: Job, call: Call, number: int) -> None:
    """Note that nodes are asked."""
    asked = {i.node for i in call.instructions}
    names = [entry.name for entry in job.roster if entry.node in asked]
    around.feed.note(
        job.id, "round_started", round=number, kind=call.message_type, nodes=names, fold=call.fold, why=call.why
    )


def closed(around: Around, job: Job, live: LiveExchange, done: Closed, number: int, begun: float) -> None:
    """Note who fell out at the close, and what became of the rest.

    Args:
        around: Services.
        job: The job.
        live: The exchange.
        done: Its outcome.
        number: The round as people count it.
        begun: When closing began, on the monotonic clock.
    """
    taken = {t.update.node for t in live.parts.taken.values()}
    for node, code, message in done.row.dropped:
        if node in taken:  # those that were dropped as they came were noted then
            name = live.roster[node].name
            around.feed.note(job.id, "update_dropped", node=name, round=number, code=code, message=message)
    event = _EVENTS.get(live.call.message_type)
    if event is None:
        return
    now = around.clock.monotonic()
    around.feed.note(
        job.id,
        event,
        round=number,
        source="nodes",
        metrics={k: v for k, v in done.metrics.items() if not isinstance(v, list)},
        included=len(live.round.included()),
        asked=len(live.call.instructions),
        seconds=round(now - live.opened_at, 4),
        fold_s=round(now - begun, 4),
    )
