"""When each waiting ask is expected to start: the decision run forward over the expected ends of the leases.

It is an expectation, made of the estimates and of the rounds that waiting jobs will still ask for; a lease that has
outlived its estimate is expected to last as long again, up to its contract.  The promise to an ask that nodes are kept
for, by the contracts of their leases, stands in its ``Wait`` (see ``latest_ms``).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from common.ids import NodeId
from coordinator.scheduling.explain import reasons, unused
from coordinator.scheduling.passes import run, settle
from coordinator.scheduling.records import Ask, Expire, Lease, Start, State, Wait
from coordinator.scheduling.world import World

MOST_STEPS = 256  # decisions that are run forward
LEASES_A_STEP = 1 / 32  # of those that run, at the least: ends that are close together are taken as one
COST_US = 300_000  # that a forecast may take, where a step takes about these two:
STEP_US, ENTRY_US = 2_000, 8


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of one moment, all from one decision."""

    waits: Mapping[str, Wait]  # by ask
    idle: Mapping[NodeId, str]  # nodes on which nothing runs, with the reason
    starts: Mapping[str, int | None]  # by ask, as expected


def latest_ms(wait: Wait) -> int | None:
    """Return the promise to an ask that nodes are kept for: the time at which it has them at the latest."""
    return wait.not_before_ms if wait.code == "reserved" else None


def steps_for(state: State) -> int:
    """Return for how many steps a forecast of ``state`` costs about ``COST_US`` of a processor."""
    size = len(state.nodes) + len(state.asks) + len(state.leases)
    return max(2, min(MOST_STEPS, COST_US // (STEP_US + ENTRY_US * size)))


def foresee(state: State, now_ms: int, horizon_ms: int, steps: int | None = None) -> Sight:
    """Return why each ask waits, why nodes are idle, and when each ask is expected to start.

    Args:
        state: Everything that decides.
        now_ms: From when.
        horizon_ms: How far to look.
        steps: Decisions to run forward, after which the pace so far is gone on with; None = see ``steps_for``.
    """
    world, steps = World.of(state), steps_for(state) if steps is None else steps
    _, started, last = settle(world, now_ms)
    waits, idle = reasons(started, last), unused(last)
    ahead = _Ahead(world, now_ms, now_ms + horizon_ms, {ask.id for ask in state.asks})
    for one in started:
        ahead.begin(one.ask, one.leases)
    ahead.run(steps)
    for wait in last.waits:
        ahead.promised(wait)
    return Sight(waits, idle, {ask.id: ahead.starts.get(ask.id) for ask in state.asks})


def forecast(state: State, now_ms: int, horizon_ms: int, steps: int | None = None) -> dict[str, int | None]:
    """Return when each waiting ask is expected to start.

    Args:
        state: Everything that decides.
        now_ms: From when.
        horizon_ms: How far to look.
        steps: As of ``foresee``.

    Returns:
        The time by ask; None = not within the horizon, or never as things stand.
    """
    return dict(foresee(state, now_ms, horizon_ms, steps).starts)


class _Ahead:
    def __init__(self, world: World, now_ms: int, last_ms: int, of_interest: set[str]) -> None:
        self.starts: dict[str, int | None] = {}
        self._world = world
        self._now_ms, self._last_ms, self._from_ms = now_ms, last_ms, now_ms
        self._of_interest = of_interest
        self._again: dict[str, Ask] = {}  # what a round that runs will ask for next
        self._ends: list[tuple[int, str, NodeId]] = []
        self._share = LEASES_A_STEP
        for lease in world.pool.leases.values():
            self._expect(lease)

    def begin(self, ask: Ask, leases: Sequence[Lease]) -> None:
        """Let an ask have started now with these leases; its job will ask again."""
        self.starts.setdefault(ask.id, self._now_ms)
        left_ms = ask.left_ms - leases[0].est_ms
        if left_ms > 0:
            self._again[ask.id] = replace(ask, id=f"{ask.id}+", left_ms=left_ms)

    def run(self, steps: int) -> None:
        """Run forward until everything of interest has started, or nothing more can be said."""
        self._share = max(LEASES_A_STEP, 1 / (2 * steps))
        for _ in range(steps):
            if not self._ends or self._of_interest <= self.starts.keys():
                break
            self._step()
            if self._now_ms > self._last_ms:
                break
            self._decide()
        else:
            self._extend()

    def promised(self, wait: Wait) -> None:
        """Let an ask that nodes are kept for be expected no later than that."""
        at_ms, expected_ms = wait.not_before_ms, self.starts.get(wait.ask)
        if at_ms is not None and at_ms <= self._last_ms and (expected_ms is None or at_ms < expected_ms):
            self.starts[wait.ask] = at_ms

    def _step(self) -> None:
        """End the leases that are expected to end next, and let their jobs ask for another round."""
        for _ in range(max(1, int(len(self._ends) * self._share))):
            at_ms, ask, node = heapq.heappop(self._ends)
            self._now_ms = max(self._now_ms, at_ms)
            lease = self._world.pool.leases.get((ask, node))
            if lease is not None:
                self._world.drop(lease, at_ms)
            if ask not in self._world.pool.running and ask in self._again:
                self._world.wait(self._again.pop(ask))

    def _decide(self) -> None:
        for decision in run(self._world, self._now_ms):
            match decision:
                case Start(ask, leases):
                    self.begin(ask, leases)
                    for lease in leases:
                        self._expect(lease)
                case Expire(lease) if lease.ask not in self._world.pool.running and lease.ask in self._again:
                    self._world.wait(self._again.pop(lease.ask))
                case _:
                    pass

    def _expect(self, lease: Lease) -> None:
        at_ms = lease.start_ms + lease.est_ms
        if at_ms <= self._now_ms < lease.until_ms:  # it has outlived its estimate: as long again
            at_ms = min(2 * self._now_ms - lease.start_ms, lease.until_ms)
        heapq.heappush(self._ends, (at_ms, lease.ask, lease.node))

    def _extend(self) -> None:
        """Go on at the pace so far, in the order of the keys, where the steps were too few."""
        later = {ask for ask, at_ms in self.starts.items() if at_ms != self._from_ms}
        world, begun = self._world, len(later & self._of_interest)
        if not begun:
            return
        pace_ms = (self._now_ms - self._from_ms) / begun
        possible = [q for q in world.line.queues.values() if len(q.reach.able) >= q.name[2]]
        order = sorted((world.key(q)[:2], *one[:3]) for q in possible for one in q.asks)
        left = [ask_id for *_, ask_id in order if ask_id in self._of_interest]
        for place, ask_id in enumerate(left, 1):
            at_ms = self._now_ms + int(place * pace_ms)
            self.starts[ask_id] = at_ms if at_ms <= self._last_ms else None
