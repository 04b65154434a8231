"""What rounds take, learned from those that ended: how long at which node, and how often they come to an end at all.

Kept for apps, not for jobs: the same app is submitted again and again.  Estimates order, charge and choose spares; they
never promise anything, and none is longer than the job declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from common.ids import JobId, NodeId
from coordinator.domain.jobs import Job
from coordinator.scheduling.overselect import Completions, Prospect, Selection, select
from coordinator.scheduling.quantiles import RoundTimes
from coordinator.scheduling.records import Ask
from coordinator.services.machines import need_of

Cohort = tuple[int, int, Sequence[NodeId]]  # at least, at most, of these nodes
FIRST_S = 1.0  # the very first round here: too little is put right when it ends, too much keeps newcomers waiting
_APPS = 5000  # kinds of rounds that are remembered


class Estimates:
    """Learned times of all rounds of this coordinator."""

    def __init__(self) -> None:
        self.times = RoundTimes()
        self._completions = Completions()
        self._known: dict[JobId, None] = {}  # in the order in which they were last seen

    def record(self) -> dict[str, object]:
        """Return all that was learned, for the store."""
        done = {node: list(pair) for node, pair in self._completions.done.items()}
        return {"times": self.times.record(), "completions": done, "known": list(self._known)}

    def restore(self, record: Mapping[str, Any]) -> None:
        """Take over what another coordinator has learned."""
        if record:
            self.times = RoundTimes.restore(record["times"])
            self._completions = Completions({node: (pair[0], pair[1]) for node, pair in record["completions"].items()})
            self._known = dict.fromkeys(record["known"])

    def observe(self, job: Job, message_type: str, node: NodeId, seconds: float) -> None:
        """Learn that a task of the job took so long at a node."""
        kind = _kind(job, message_type)
        self._known.pop(kind, None)
        self._known[kind] = None
        if len(self._known) > _APPS:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self.times.forget_job(oldest)
        self.times.observe(node, kind, seconds)

    def outcome(self, node: NodeId, *, completed: bool) -> None:
        """Learn whether a node brought a task to an end."""
        self._completions.observe(node, completed)

    def known(self, job: Job, message_type: str) -> bool:
        """Say whether rounds of this kind were seen."""
        return _kind(job, message_type) in self._known

    def round_s(self, job: Job, message_type: str, nodes: Iterable[NodeId], m: int) -> float:
        """Return how long a round at ``m`` of ``nodes`` is expected to take, in seconds, at most the job's deadline."""
        kind = _kind(job, message_type)
        each = sorted(s for node in nodes if (s := self.times.median(node, kind)) is not None)
        expected = each[min(max(m, 1), len(each)) - 1] if each else FIRST_S
        return min(expected, job.spec.deadline_s)

    def left_s(self, job: Job, nodes: Sequence[NodeId], now: float) -> float:
        """Return how long the job still runs: its declared rounds, or as long again as it has run."""
        one = self.round_s(job, "train", nodes, len(nodes)) + (
            self.round_s(job, "evaluate", nodes, len(nodes)) if self.known(job, "evaluate") else 0.0
        )
        if job.spec.rounds:
            return one * max(job.spec.rounds - job.round, 1)
        return max(one, now - (job.started_at if job.started_at is not None else now))

    def selection(
        self, job: Job, message_type: str, nodes: Sequence[NodeId], m: int, bound_s: float
    ) -> Selection | None:
        """Return how many of ``nodes`` to ask for ``m`` updates, and when to stop waiting; None: little is known."""
        kind = _kind(job, message_type)
        if not self.known(job, message_type) or m >= len(nodes):
            return None
        prospects = []
        for node in nodes:
            median, late = self.times.median(node, kind), self.times.late(node, kind)
            if median is None or late is None:
                return None
            prospects.append(Prospect(median, max(late, median), self._completions.of(node)))
        return select(prospects, m, bound_s)

    def ask(self, job: Job, message_type: str, id_: str, cohort: Cohort, bound_s: float, now_ms: int) -> Ask:
        """Return a round's ask, for at most ``bound_s`` seconds, with the job's own place in line."""
        m, n, nodes = cohort
        bound_ms = _coarse(_ms(bound_s))
        return Ask(
            id=id_,
            job=job.id,
            tenant=job.tenant,
            need=need_of(job.spec),
            m=m,
            n=max(n, m),
            est_ms=min(_ms(self.round_s(job, message_type, nodes, m)), bound_ms),
            bound_ms=bound_ms,
            submit_ms=round(job.created_at * 1000),
            left_ms=_ms(self.left_s(job, nodes, now_ms / 1000)),
            candidates=tuple(sorted(nodes)),
            klass=job.spec.priority,
        )


def _coarse(ms: int) -> int:
    """Return ``ms`` rounded up by at most 1/16: asks of about equal length are equals to the scheduler."""
    shift = max(ms.bit_length() - 5, 0)
    return -(-ms >> shift) << shift


def _ms(seconds: float) -> int:
    return max(round(min(seconds, 1e9) * 1000), 1)


def _kind(job: Job, message_type: str) -> JobId:
    return JobId(f"{job.app}/{message_type}")
