"""The simulator: a heap of events over a trace, and the service's planner for every decision.

A job is a chain of rounds.  Each round is an ask for a gang of nodes, one GPU each, for at most the length of a round
(less if the job declared that it will be done before); when its leases end the job asks again, with the job's place in
the order.  All that happens at one moment is told to the planner first, then it decides once.  No clock, no
randomness: the same trace and setup give the same history.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from common.errors import BadInput
from common.ids import JobId, NodeId, TenantId
from coordinator.domain.quotas import Grant
from coordinator.scheduling.planner import Planner
from coordinator.scheduling.records import Ask, Device, Lease, Need, Node, Policy, Start
from coordinator.scheduling.simulate.sizes import Sizes
from coordinator.scheduling.simulate.trace import TraceJob

SITE = TenantId("pool")
KIND = "cuda"
MIB = 81_920
AWAY_MS = 60_000  # without an ask or a lease for longer than this, a tenant was away, as in the service
MOST_ROUNDS = 50_000_000
MOST_GPUS = 1_000_000
_STEP = 1000  # decisions between two reports of progress
Progress = Callable[[int, int, int], None]  # (jobs ended, jobs in all, simulated milliseconds)


@dataclass(frozen=True)
class Setup:
    """What the trace runs on.

    Args:
        policy: As the service would be set to.
        gpus: GPUs of the pool; one node each.
        round_ms: Longest lease.
        weights: Of tenants that have not weight 1.
    """

    policy: Policy
    gpus: int
    round_ms: int
    weights: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one job; times in milliseconds."""

    job: TraceJob
    started_ms: int
    ended_ms: int

    @property
    def completion_ms(self) -> int:
        """Submission to end."""
        return self.ended_ms - self.job.submit_ms

    @property
    def waited_ms(self) -> int:
        """All the time it was neither running nor done."""
        return self.completion_ms - self.job.length_ms


@dataclass
class History:
    """What happened, as changes: at time t tenant i held more or less, or had more or fewer asks waiting."""

    tenants: tuple[str, ...]
    outcomes: list[Outcome] = field(default_factory=list)
    never: list[TraceJob] = field(default_factory=list)  # larger than the pool
    at_ms: array[int] = field(default_factory=lambda: array("q"))
    tenant: array[int] = field(default_factory=lambda: array("q"))
    held_milli: array[int] = field(default_factory=lambda: array("q"))  # change of what is held
    waiting: array[int] = field(default_factory=lambda: array("q"))  # change of how many asks wait
    granted: array[int] = field(default_factory=lambda: array("q"))  # milli-GPU ms, with true lengths
    decisions: int = 0
    violations: int = 0  # of capacity or gangs: audited here, apart from the planner's own books

    def note(self, at_ms: int, tenant: int, held_milli: int, waiting: int, granted: int) -> None:
        """Add one change."""
        self.at_ms.append(at_ms)
        self.tenant.append(tenant)
        self.held_milli.append(held_milli)
        self.waiting.append(waiting)
        self.granted.append(granted)


@dataclass(slots=True)
class _Running:
    """A job between its submission and its end."""

    job: TraceJob
    tenant: int
    attained_ms: int = 0
    round: int = 0
    started_ms: int = -1
    ask: str = ""
    nodes: tuple[NodeId, ...] = ()
    bound_ms: int = 0
    run_ms: int = 0


def simulate(jobs: tuple[TraceJob, ...], setup: Setup, sizes: Sizes, progress: Progress | None = None) -> History:
    """Run ``jobs``, in the order of their submission, and return what happened.

    Raises:
        BadInput: the pool is too large, or the rounds are so short that there are more than fifty million.
    """
    if not 1 <= setup.gpus <= MOST_GPUS:
        raise BadInput(f"a pool has from 1 to {MOST_GPUS} GPUs, not {setup.gpus}")
    if setup.round_ms < 1:
        raise BadInput("a round takes at least a millisecond")
    rounds = sum(-(-job.length_ms // setup.round_ms) for job in jobs)
    if rounds > MOST_ROUNDS:
        raise BadInput(
            f"these jobs have {rounds:,} rounds, more than {MOST_ROUNDS:,}",
            next_step="Take fewer --days, a longer --round-s, or a --longest-s.",
        )
    return _Simulation(jobs, setup, sizes).run(progress)


class _Simulation:
    def __init__(self, jobs: tuple[TraceJob, ...], setup: Setup, sizes: Sizes) -> None:
        self._setup, self._sizes = setup, sizes
        names = tuple(sorted({job.tenant for job in jobs}))
        self._index = {name: i for i, name in enumerate(names)}
        self.history = History(names)
        self._jobs = tuple(job for job in jobs if job.gpus <= setup.gpus)
        self.history.never.extend(job for job in jobs if job.gpus > setup.gpus)
        self._live: dict[str, _Running] = {}
        self._by_ask: dict[str, _Running] = {}
        self._ends: list[tuple[int, str]] = []
        self._busy = [0] * len(names)  # asks and running rounds, by tenant
        self._seen: list[int | None] = [None] * len(names)  # when it last had one
        self._free = {node.id: 1000 for node in pool(setup.gpus)}
        self._planner = Planner(setup.policy)
        for node in pool(setup.gpus):
            self._planner.put_node(node)
        for name in names:
            if name in setup.weights:
                self._planner.put_grant(Grant(SITE, TenantId(name), weight=setup.weights[name]))

    def run(self, progress: Progress | None) -> History:
        coming = 0
        while coming < len(self._jobs) or self._ends or self._live:
            now = self._next(coming)
            while self._ends and self._ends[0][0] <= now:
                self._end(self._live[heapq.heappop(self._ends)[1]], now)
            while coming < len(self._jobs) and self._jobs[coming].submit_ms <= now:
                job = self._jobs[coming]
                self._live[job.id] = running = _Running(job, self._index[job.tenant])
                self._ask(running, now)
                coming += 1
            self._decide(now)
            self.history.decisions += 1
            if progress and self.history.decisions % _STEP == 0:
                progress(len(self.history.outcomes), len(self._jobs), now)
        if progress:
            progress(len(self._jobs), len(self._jobs), self.history.at_ms[-1] if self.history.at_ms else 0)
        return self.history

    def _next(self, coming: int) -> int:
        times = [self._jobs[coming].submit_ms] if coming < len(self._jobs) else []
        times += [self._ends[0][0]] if self._ends else []
        if not times:
            stuck = next(iter(self._live.values())).job
            raise RuntimeError(f"job {stuck.id} (line {stuck.line}) waits and nothing is going to happen")
        return min(times)

    def _ask(self, running: _Running, now: int) -> None:
        job, running.bound_ms = running.job, self._setup.round_ms
        left = self._sizes.left_ms(job, running.attained_ms)
        if job.declared_ms is not None:
            undone = max(0, job.declared_ms - running.attained_ms)
            left = min(left, undone)
            running.bound_ms = min(running.bound_ms, undone or running.bound_ms)  # who overruns gets whole rounds
        running.ask = f"{job.id}/{running.round}"
        self._by_ask[running.ask] = running
        self._planner.add(
            Ask(
                id=running.ask,
                job=JobId(job.id),
                tenant=TenantId(job.tenant),
                need=Need(kind=KIND, milli=job.milli, cpu_milli=0),
                m=job.gpus,
                n=job.gpus,
                est_ms=max(1, min(left, running.bound_ms)),
                bound_ms=running.bound_ms,
                submit_ms=job.submit_ms,
                left_ms=left,
                klass=job.priority,
            ),
            back=self._was_away(running.tenant, now),
        )
        self._busy[running.tenant] += 1
        self.history.note(now, running.tenant, 0, 1, 0)

    def _was_away(self, tenant: int, now: int) -> bool:
        seen = self._seen[tenant]
        return not self._busy[tenant] and (seen is None or now - seen > AWAY_MS)

    def _decide(self, now: int) -> None:
        for decision in self._planner.decide(now):
            if isinstance(decision, Start):
                self._start(self._by_ask.pop(decision.ask.id), decision.leases, now)

    def _start(self, running: _Running, leases: tuple[Lease, ...], now: int) -> None:
        job = running.job
        if len({lease.node for lease in leases}) != job.gpus:
            self.history.violations += 1
        for lease in leases:
            self._free[lease.node] -= job.milli
            self.history.violations += self._free[lease.node] < 0
        running.nodes = tuple(lease.node for lease in leases)
        running.run_ms = max(0, min(running.bound_ms, job.length_ms - running.attained_ms))
        if running.started_ms < 0:
            running.started_ms = now
        held = job.milli * job.gpus
        self.history.note(now, running.tenant, held, -1, held * running.run_ms)
        heapq.heappush(self._ends, (now + running.run_ms, job.id))

    def _end(self, running: _Running, now: int) -> None:
        job = running.job
        for node in running.nodes:
            self._planner.end(running.ask, node, now)
            self._free[node] += job.milli
        self.history.note(now, running.tenant, -job.milli * job.gpus, 0, 0)
        self._busy[running.tenant] -= 1
        self._seen[running.tenant] = now
        running.attained_ms += running.run_ms
        running.round += 1
        if running.attained_ms < job.length_ms:
            self._ask(running, now)
            return
        del self._live[job.id]
        self._sizes.finished(job)
        self.history.outcomes.append(Outcome(job, running.started_ms, now))


def pool(gpus: int) -> Iterator[Node]:
    """Yield one node for each GPU; a part of a GPU is a slot of its own."""
    width = len(str(gpus - 1))
    for i in range(gpus):
        name = f"g{i:0{width}d}"
        yield Node(NodeId(name), SITE, cpu_milli=0, ram_mib=0, slots=1000, devices=(Device(f"{name}-gpu", KIND, MIB),))
