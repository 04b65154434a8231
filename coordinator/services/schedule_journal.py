"""The scheduler's journal, written behind its back: many rows in one transaction, a snapshot now and then.

Nobody waits for a row: a coordinator that is killed loses what it decided in the last moment, and the jobs, which go on
from their own journals, ask for it again.  While the store is away rows are kept, up to a limit; beyond it a snapshot
takes their place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from common.errors import BadInput, Corrupted, LeaseLost, PlatformError
from coordinator.ports.store import Store, Tx
from coordinator.scheduling.events import Began, Ended, Entry, Event, Snapshot
from coordinator.scheduling.planner import Planner
from coordinator.scheduling.records import Policy, State
from coordinator.scheduling.replay import Fold, given_up, taken_over

_log = structlog.get_logger()
EVERY_S = 0.05
SNAPSHOT_EVERY = 2000  # entries
KEEP = 100_000  # entries behind the newest
_MOST = 20_000  # entries that wait for the store
_AGAIN_S = 1.0
_PAGE = 2000


class ScheduleJournal:
    """Rows of one coordinator's scheduler.

    Args:
        store: Where they are kept.
        every_s: How long a row may wait for company.
        snapshot_every: Entries between two snapshots.
        keep: Entries that are kept for auditors.
    """

    def __init__(
        self, store: Store, every_s: float = EVERY_S, snapshot_every: int = SNAPSHOT_EVERY, keep: int = KEEP
    ) -> None:
        self._store, self._every_s, self._snapshot_every, self._keep = store, every_s, snapshot_every, keep
        self._seq = self._at_ms = 0
        self._waiting: list[Entry] = []
        self._snapshot_at = 0
        self._state: Callable[[], State] | None = None
        self._learned: Callable[[], dict[str, object]] = dict
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._lost = False
        self._one_at_a_time = asyncio.Lock()  # rows are written in their order, also after one write failed

    async def load(self, policy: Policy, now_ms: int) -> tuple[State, int, int]:
        """Return the state that the journal leads to under ``policy``, its last turn and its last time.

        Rows that cannot be read are set aside, and it begins anew: scheduling's history is no reason not to start.
        """
        try:
            base, fold = await self._store.read(_fold)
            state = fold.state()
        except (Corrupted, BadInput) as error:
            await self._begin_anew(policy, now_ms, error)
            base, fold = await self._store.read(_fold)
            state = fold.state()
        self._seq, self._at_ms = fold.seq, fold.at_ms
        self._snapshot_at = base.seq if base is not None else 0
        if fold.parted is not None:
            _log.warning("schedule_decided_otherwise", row=fold.parted)  # by another release
        now_ms = max(now_ms, fold.at_ms)
        planner = Planner.of(state)
        for lease in given_up(state, now_ms):  # our absence is nobody's use: settled at our last sign of life
            planner.end(lease.ask, lease.node, fold.at_ms)
            self.note(Ended(lease.ask, lease.node, "coordinator_away"), fold.at_ms, 0)
        state = taken_over(planner.state(), policy, now_ms)
        self.note(Began(policy), now_ms, 0)
        return state, fold.turn, now_ms

    async def _begin_anew(self, policy: Policy, now_ms: int, error: PlatformError) -> None:
        def work(tx: Tx) -> int:
            newest = tx.schedule.set_aside()
            tx.schedule.put_snapshot(Snapshot(newest, now_ms, State(policy, ())))
            return newest

        newest = await self._store.write(work)
        _log.error(
            "schedule_begins_anew",
            why=error.detail,
            lost="leases, use and learned round times; jobs ask again",
            set_aside=f"rows up to {newest}, under negative numbers",
        )

    def begin(self, state: Callable[[], State]) -> None:
        """Write from now on; ``state`` returns what the rows so far lead to."""
        self._state = state

    async def learn(self, record: Callable[[], dict[str, object]]) -> dict[str, object]:
        """Keep what was learned with every snapshot from now on; return what the newest one has."""
        self._learned = record
        newest = await self._store.read(lambda tx: tx.schedule.snapshot())
        return newest.learned if newest is not None else {}

    def note(self, event: Event, at_ms: int, turn: int) -> None:
        """Add a row; it is written a moment later."""
        self._seq += 1
        self._at_ms = at_ms
        self._waiting.append(Entry(self._seq, at_ms, turn, event))
        self._plan(self._every_s)

    async def flush(self) -> None:
        """Write what is there."""
        await self._write()

    async def close(self) -> None:
        """Write what is left."""
        if self._timer is not None:
            self._timer.cancel()
        self._snapshot_at = -self._snapshot_every  # with a snapshot: another release may decide otherwise
        try:
            await self.flush()
        except PlatformError as error:
            _log.warning("schedule_not_written", code=error.code, detail=error.detail)

    def _plan(self, delay_s: float) -> None:
        if self._timer is None and self._writing is None and not self._lost:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._start)

    def _start(self) -> None:
        self._timer = None
        self._writing = asyncio.get_running_loop().create_task(self._try())

    async def _try(self) -> None:
        delay_s = self._every_s
        try:
            await self._write()
        except LeaseLost:
            self._lost = True  # another coordinator writes now
        except PlatformError as error:
            _log.warning("schedule_not_written", code=error.code, detail=error.detail)
            delay_s = _AGAIN_S
        finally:
            self._writing = None
        if self._waiting:
            self._plan(delay_s)

    async def _write(self) -> None:
        async with self._one_at_a_time:
            rows, self._waiting = self._waiting, []
            snapshot = self._due()
            if not rows and snapshot is None:
                return

            def work(tx: Tx) -> None:
                if not _all_there(tx, rows):  # a commit in doubt may have succeeded
                    tx.schedule.append(rows)
                if snapshot is not None:
                    tx.schedule.put_snapshot(snapshot)
                    tx.schedule.prune(snapshot.seq - self._keep)

            try:
                await self._store.write(work)
            except BaseException:
                self._keep_for_later(rows)
                raise
            if snapshot is not None:
                self._snapshot_at = snapshot.seq

    def _due(self) -> Snapshot | None:
        if self._state is None or self._seq - self._snapshot_at < self._snapshot_every:
            return None
        return Snapshot(self._seq, self._at_ms, self._state(), self._learned())

    def _keep_for_later(self, rows: list[Entry]) -> None:
        self._waiting = rows + self._waiting
        if len(self._waiting) > _MOST:
            self._waiting = self._waiting[-1:]
            self._snapshot_at = -self._snapshot_every


def _all_there(tx: Tx, rows: list[Entry]) -> bool:
    last = tx.schedule.last()
    return bool(rows) and last is not None and last.seq >= rows[-1].seq


def fold_before(tx: Tx, seq: int) -> Fold:
    """Return what the journal leads to just before row ``seq``.

    Raises:
        Corrupted: rows are missing, for it was too long ago.
    """
    return _fold(tx, seq)[1]


def _fold(tx: Tx, before: int | None = None) -> tuple[Snapshot | None, Fold]:
    base = tx.schedule.snapshot(None if before is None else before - 1)
    fold = Fold(base)
    while True:
        page = tx.schedule.entries(fold.seq, _PAGE)
        fold.feed([entry for entry in page if before is None or entry.seq < before])
        if len(page) < _PAGE or (before is not None and page[-1].seq >= before):
            return base, fold
