"""Leases of the nodes' slots: feeds real events to ``scheduling.slots`` and acts on what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from common.clock import Clock
from common.ids import NodeId, TaskId
from coordinator.scheduling.slots import Ask, Expire, Lease, Start, State, decide


@dataclass(frozen=True)
class _Wanted:
    ask: Ask
    on_start: Callable[[Lease], None]
    on_expire: Callable[[Lease], None]


class Leases:
    """Every ask and lease of this coordinator, in memory: after a crash the jobs simply ask again.

    Args:
        clock: Monotonic time.
        slots: How many tasks a node runs at once; 0 when it is away.
    """

    def __init__(self, clock: Clock, slots: Callable[[NodeId], int]) -> None:
        self._clock, self._slots = clock, slots
        self._asks: dict[TaskId, _Wanted] = {}
        self._held: dict[TaskId, tuple[Lease, _Wanted]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._settling = self._again = False

    def ask(self, ask: Ask, on_start: Callable[[Lease], None], on_expire: Callable[[Lease], None]) -> None:
        """Want a slot for a task; ``settle`` decides."""
        if ask.task not in self._held:
            self._asks[ask.task] = _Wanted(ask, on_start, on_expire)

    def release(self, task: TaskId) -> None:
        """Give a slot or the wish for it back."""
        self._asks.pop(task, None)
        self._held.pop(task, None)

    def holds(self, task: TaskId) -> bool:
        """Say whether the task has its slot."""
        return task in self._held

    def settle(self) -> None:
        """Decide now, and tell who got what.  Whoever is told may ask and release again, and call this."""
        self._again = True
        if self._settling:
            return
        self._settling = True
        try:
            while self._again:
                self._again = False
                self._decide()
        finally:
            self._settling = False
        self._watch()

    def _decide(self) -> None:
        asks = tuple(w.ask for w in self._asks.values())
        leases = tuple(lease for lease, _ in self._held.values())
        slots = {a.node: self._slots(a.node) for a in asks}
        for decision in decide(State(asks, leases, slots), self._clock.monotonic()):
            if isinstance(decision, Start) and decision.lease.task in self._asks:
                wanted = self._asks.pop(decision.lease.task)
                self._held[decision.lease.task] = (decision.lease, wanted)
                wanted.on_start(decision.lease)
            elif isinstance(decision, Expire) and decision.lease.task in self._held:
                lease, wanted = self._held.pop(decision.lease.task)
                wanted.on_expire(lease)

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self) -> None:
        """Come back when the next lease runs out; one timer is enough."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            first = min(lease.until for lease, _ in self._held.values())
            self._timer = asyncio.get_running_loop().call_later(max(first - self._clock.monotonic(), 0.01), self.settle)
