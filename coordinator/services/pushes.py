"""Messages that an app pushes and pulls by hand: many exchanges at once, each reply given out once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from common.ids import JobId, task_id
from coordinator.domain.exchanges import Exchange, ExchangeKind, Reply
from coordinator.domain.jobs import Job
from coordinator.services import closing
from coordinator.services.around import Around
from coordinator.services.calls import open_row
from coordinator.services.collect import Kept
from coordinator.services.exchange import LiveExchange

PATIENCE_S = 1.0  # a pull waits so long for the first new reply


class Pushes:
    """The pushed exchanges of one job whose replies the app has not had yet.

    Args:
        around: Services.
        job: The job.
        on_over: Called with an exchange when the app has had every reply of it.
    """

    def __init__(self, around: Around, job: JobId, on_over: Callable[[LiveExchange], None]) -> None:
        self._around, self._job, self._on_over = around, job, on_over
        self._open: dict[int, LiveExchange] = {}
        self._left: dict[str, tuple[LiveExchange, int]] = {}  # message id -> where it is
        self._changed = asyncio.Event()

    def add(self, live: LiveExchange, given: set[str]) -> None:
        """Send a pushed exchange out; ``given`` are ids whose replies the app had before a restart."""
        live.changed = self._changed
        self._open[live.seq] = live
        for slot in live.round.slots:
            message = task_id(self._job, live.seq, slot)
            if message not in given:
                self._left[message] = (live, slot)

    async def wait(self, ids: Sequence[str]) -> list[str]:
        """Return those of ``ids`` whose replies are there; waits a moment for the first."""
        clock = self._around.clock
        until = clock.monotonic() + PATIENCE_S
        while True:
            self._changed.clear()
            for live in self._open.values():
                live.overdue()
            ready = [i for i in ids if i in self._left and self._is_final(i)]
            left = until - clock.monotonic()
            if ready or left <= 0:
                return ready
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def has(self, seq: int) -> bool:
        """Say whether a pushed exchange is under way."""
        return seq in self._open

    def given(self, ids: Sequence[str]) -> None:
        """The app has these replies, for ever; exchanges that are empty now are over."""
        for message in ids:
            self._left.pop(message, None)
        waited_for = {live.seq for live, _ in self._left.values()}
        for seq in [s for s in self._open if s not in waited_for]:
            self._on_over(self._open.pop(seq))

    def _is_final(self, message: str) -> bool:
        live, slot = self._left[message]
        return live.round.is_final(slot)

    async def take(
        self, job: Job, seq: int, asked: Sequence[str], ready: Sequence[str]
    ) -> tuple[Exchange, tuple[Kept, ...]]:
        """Return the journal row of the replies ``ready``, and their objects."""
        replies: list[Reply] = []
        kept: list[Kept] = []
        now = self._around.clock.now()
        for live in list(self._open.values()):
            slots = [self._left[i][1] for i in ready if self._left[i][0] is live]
            if slots:
                row = open_row(job.id, live.seq, live.call, now)
                closed = await closing.single_replies(self._around, job, live, row, slots)
                replies += closed.row.replies
                kept += closed.kept
        row = Exchange(
            job.id, seq, ExchangeKind.PULL, False, (), opened_at=now, closed_at=now, replies=tuple(replies),
            pulled=tuple(asked),
        )  # fmt: skip
        return row, tuple(kept)
