"""When each waiting ask is expected to start: the decision run forward over the expected ends of the leases.

An ask that nodes are kept for starts at the latest when the last of their leases ends by contract, so its forecast is a
promise; every other is an expectation, made of the estimates and of the rounds that waiting jobs will still ask for.
"""

from __future__ import annotations

import heapq
from dataclasses import replace

from common.ids import NodeId
from coordinator.scheduling.passes import run
from coordinator.scheduling.records import Ask, Decision, Expire, Lease, Start, State, Wait
from coordinator.scheduling.world import World

MOST_STEPS = 256  # decisions that are run forward
LEASES_A_STEP = 1 / 32  # of those that run: ends that are close together are taken as one


def forecast(state: State, now_ms: int, horizon_ms: int) -> dict[str, int | None]:
    """Return when each waiting ask is expected to start.

    Args:
        state: Everything that decides.
        now_ms: From when.
        horizon_ms: How far to look.

    Returns:
        The time by ask; None = not within the horizon, or never as things stand.
    """
    ahead = _Ahead(state, now_ms, now_ms + horizon_ms)
    ahead.run()
    return {ask.id: ahead.starts.get(ask.id) for ask in state.asks}


class _Ahead:
    def __init__(self, state: State, now_ms: int, last_ms: int) -> None:
        self.starts: dict[str, int | None] = {}
        self._world = World.of(state)
        self._now_ms, self._last_ms, self._from_ms = now_ms, last_ms, now_ms
        self._of_interest = {ask.id for ask in state.asks}
        self._again: dict[str, Ask] = {}  # what a round that runs will ask for next
        self._ends: list[tuple[int, str, NodeId]] = []
        for lease in state.leases:
            self._expect(lease)

    def run(self) -> None:
        """Run forward until everything of interest has started, or nothing more can be said."""
        kept = [one for one in self._decide() if isinstance(one, Wait)]
        for _ in range(MOST_STEPS):
            if not self._ends or self._of_interest <= self.starts.keys():
                break
            self._step()
            if self._now_ms > self._last_ms:
                break
            self._decide()
        else:
            self._extend()
        for wait in kept:
            at_ms = wait.not_before_ms
            self.starts[wait.ask] = at_ms if at_ms is not None and at_ms <= self._last_ms else None

    def _step(self) -> None:
        """End the leases that are expected to end next, and let their jobs ask for another round."""
        for _ in range(max(1, int(len(self._ends) * LEASES_A_STEP))):
            at_ms, ask, node = heapq.heappop(self._ends)
            self._now_ms = max(self._now_ms, at_ms)
            lease = self._world.pool.leases.get((ask, node))
            if lease is not None:
                self._world.drop(lease, at_ms)
            if ask not in self._world.pool.running and ask in self._again:
                self._world.wait(self._again.pop(ask))

    def _decide(self) -> tuple[Decision, ...]:
        decisions = run(self._world, self._now_ms)
        for decision in decisions:
            match decision:
                case Start(ask, leases):
                    self.starts.setdefault(ask.id, self._now_ms)
                    left_ms = ask.left_ms - leases[0].est_ms
                    if left_ms > 0:
                        self._again[ask.id] = replace(ask, id=f"{ask.id}+", left_ms=left_ms)
                    for lease in leases:
                        self._expect(lease)
                case Expire(lease) if lease.ask not in self._world.pool.running and lease.ask in self._again:
                    self._world.wait(self._again.pop(lease.ask))
                case _:
                    pass
        return decisions

    def _expect(self, lease: Lease) -> None:
        at_ms = lease.start_ms + lease.est_ms
        heapq.heappush(self._ends, (at_ms if at_ms > self._now_ms else lease.until_ms, lease.ask, lease.node))

    def _extend(self) -> None:
        """Go on at the pace so far, in the order of the keys, where the steps were too few."""
        world, begun = self._world, sum(1 for ask in self.starts if ask in self._of_interest)
        if not begun:
            return
        pace_ms = (self._now_ms - self._from_ms) / begun
        possible = [q for q in world.line.queues.values() if len(q.reach.able) >= q.name[2]]
        order = sorted((world.key(q)[:2], *one[:3]) for q in possible for one in q.asks)
        left = [ask_id for *_, ask_id in order if ask_id in self._of_interest]
        for place, ask_id in enumerate(left, 1):
            at_ms = self._now_ms + int(place * pace_ms)
            self.starts[ask_id] = at_ms if at_ms <= self._last_ms else None
