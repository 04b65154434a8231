"""Who waits: one queue for each tenant and shape of ask, and the queues' keys as columns.

Within a queue only the time and the size of the jobs differ, so only its head can start next, and when the head does
not fit, the rest does not either.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

import numpy as np

from common.ids import TenantId
from coordinator.scheduling.policies import slack
from coordinator.scheduling.reach import Reach
from coordinator.scheduling.records import Ask, Policy
from coordinator.scheduling.stock import Bools, Floats, Ints, grown

Key = tuple[int, float, float, int, str]  # rank, share, slack, submit, id: the smallest goes first
QueueName = tuple[TenantId, int, int, int]  # tenant, number of the reach, m, bound
INSIDE, DEMOTED, BORROWS = 0, 1, 2  # ranks: within its guarantee; so, but not on the nodes that are free; beyond it


@dataclass(slots=True, eq=False)
class Queue:
    """Asks that differ in nothing that decides whether they fit."""

    name: QueueName
    reach: Reach
    row: int
    asks: list[tuple[float, int, str, Ask]] = field(default_factory=list)  # slack, submit, id

    @property
    def head(self) -> Ask:
        """Return the ask that goes first."""
        return self.asks[0][3]

    @property
    def tenant(self) -> TenantId:
        """Return whose queue it is."""
        return self.name[0]


class Line:
    """All queues, and a row of numbers for each."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._spare: list[int] = []
        self.queues: dict[QueueName, Queue] = {}
        self.of: dict[TenantId, dict[QueueName, Queue]] = {}
        self.by_row: list[Queue | None] = []
        self.live: Bools = np.zeros(0, np.bool_)
        self.reach: Ints = np.zeros(0, np.int64)
        self.m: Ints = np.zeros(0, np.int64)
        self.bound_ms: Ints = np.zeros(0, np.int64)
        self.barred: Ints = np.zeros(0, np.int64)  # nodes in reach that the tenant's limits bar
        self.rank: Ints = np.zeros(0, np.int64)
        self.submit_ms: Ints = np.zeros(0, np.int64)
        self.share: Floats = np.zeros(0)
        self.slack: Floats = np.zeros(0)

    def queue(self, ask: Ask, reach: Reach) -> tuple[Queue, bool]:
        """Return the queue that ``ask`` belongs to, and whether it was just made."""
        name = (ask.tenant, reach.number, ask.m, ask.bound_ms)
        queue = self.queues.get(name)
        if queue is not None:
            return queue, False
        row = self._spare.pop() if self._spare else len(self.by_row)
        if row == len(self.by_row):
            self.by_row.append(None)
        if row >= len(self.m):
            self._grow(max(64, 2 * row))
        queue = self.queues[name] = self.by_row[row] = Queue(name, reach, row)
        self.of.setdefault(ask.tenant, {})[name] = queue
        self.live[row], self.reach[row], self.m[row], self.bound_ms[row] = True, reach.number, ask.m, ask.bound_ms
        return queue, True

    def push(self, queue: Queue, ask: Ask) -> None:
        """Let an ask wait in its queue."""
        insort(queue.asks, (slack(self._policy, ask), ask.submit_ms, ask.id, ask))
        self._show(queue)

    def remove(self, queue: Queue, ask: Ask) -> bool:
        """Take an ask out of its queue; tell whether the queue is gone with it."""
        del queue.asks[bisect_left(queue.asks, (slack(self._policy, ask), ask.submit_ms, ask.id))]
        if queue.asks:
            self._show(queue)
            return False
        del self.queues[queue.name]
        del self.of[queue.tenant][queue.name]
        if not self.of[queue.tenant]:
            del self.of[queue.tenant]
        self.by_row[queue.row] = None
        self.live[queue.row] = False
        self._spare.append(queue.row)
        return True

    def first(self, among: Bools) -> Queue | None:
        """Return the queue with the smallest key; those within their guarantee count as demoted."""
        rows = np.flatnonzero(among)
        if not rows.size:
            return None
        for column in (self.rank, self.share, self.slack, self.submit_ms):
            values = np.maximum(column[rows], DEMOTED) if column is self.rank else column[rows]
            rows = rows[values == values.min()]
            if rows.size == 1:
                break
        return min((queue for row in rows.tolist() if (queue := self.by_row[row])), key=lambda queue: queue.head.id)

    def _show(self, queue: Queue) -> None:
        self.slack[queue.row], self.submit_ms[queue.row] = queue.asks[0][:2]

    def _grow(self, size: int) -> None:
        self.barred = grown(self.barred, (size,))
        self.live, self.reach, self.m = grown(self.live, (size,)), grown(self.reach, (size,)), grown(self.m, (size,))
        self.bound_ms, self.rank = grown(self.bound_ms, (size,)), grown(self.rank, (size,))
        self.submit_ms = grown(self.submit_ms, (size,))
        self.share, self.slack = grown(self.share, (size,)), grown(self.slack, (size,))
