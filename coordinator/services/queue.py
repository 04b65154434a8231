"""The queue as people see it: who waits for what and until when, who holds what, and which node is idle why.

And the proof: why an ask was granted what, made again from the journal as it stood then.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import Corrupted, NotFound
from common.ids import JobId, NodeId
from coordinator.ports.store import Store, Tx
from coordinator.scheduling.decide import decide
from coordinator.scheduling.events import Asked, Ended, Entry, Expired, Revoked, Started
from coordinator.scheduling.forecast import foresee, latest_ms
from coordinator.scheduling.records import Ask, Lease, Policy, State, Wait
from coordinator.scheduling.replay import ask_of, decided
from coordinator.services.schedule import Schedule
from coordinator.services.schedule_journal import fold_before

HORIZON_MS = 7 * 86_400_000  # no forecast looks further
GAP_S = 1.0  # between two looks at a schedule that changed
STALE_MS = 10_000  # after which a schedule that did not change is looked at again: leases outlive their estimates


@dataclass(frozen=True)
class Waiting:
    """An ask that waits: why, and when it is expected to start."""

    ask: Ask
    wait: Wait
    forecast_ms: int | None  # as expected; None: not within a week, as things stand

    @property
    def latest_ms(self) -> int | None:
        """Return the promise to an ask that nodes are kept for, by the contracts of their leases; None = none."""
        return latest_ms(self.wait)


@dataclass(frozen=True)
class Queue:
    """Everything at one moment."""

    at_ms: int
    policy: Policy
    waiting: tuple[Waiting, ...]  # in the order in which they are expected to start
    leases: tuple[Lease, ...]
    enforcement: Mapping[tuple[str, NodeId], tuple[str, ...]]  # what holds each lease to its slice, by (ask, node)
    idle: Mapping[NodeId, str]  # nodes on which nothing runs, with the reason


@dataclass(frozen=True)
class Proof:
    """Why an ask was granted what it was."""

    row: int  # of the journal
    at_ms: int
    holds: bool  # the same state gives the same decision
    state: State  # before the decision
    ask: Ask
    leases: tuple[Lease, ...]
    others: Mapping[str, str]  # asks that waited beside it -> what became of them in the same pass


@dataclass(frozen=True)
class History:
    """What is known of an ask."""

    ask: Ask
    asked_ms: int
    waiting: Waiting | None
    leases: tuple[Lease, ...]  # held now
    rows: tuple[Entry, ...]
    proof: Proof | None  # None: nothing was granted yet


class QueueView:
    """Looks at the scheduler without disturbing it; however many ask, one look is for all of them.

    Args:
        schedule: The scheduler.
        store: Its journal.
        gap_s: At least so long between two looks at a schedule that changed.
    """

    def __init__(self, schedule: Schedule, store: Store, gap_s: float = GAP_S) -> None:
        self._schedule, self._store, self._gap_s = schedule, store, gap_s
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[Queue] | None = None  # a look that has not begun: whoever comes now shares it
        self._seen: tuple[State, Queue] | None = None
        self._seen_at = -math.inf  # on the loop's clock

    @property
    def policy(self) -> Policy:
        """Return who goes first."""
        return self._schedule.policy

    async def look(self) -> Queue:
        """Return the queue as it is now, or was when the schedule last changed."""
        if self._next is None or self._next.done():
            self._next = asyncio.create_task(self._look())
        return await asyncio.shield(self._next)

    async def _look(self) -> Queue:
        async with self._turn:
            found = self._unchanged()
            if found is None:
                await asyncio.sleep(self._seen_at + self._gap_s - asyncio.get_running_loop().time())
                found = self._unchanged()
            self._next = None
            if found is not None:
                return found
            state, at_ms = self._schedule.state(), self._schedule.now_ms
            found = await asyncio.to_thread(_look, state, at_ms, self._held(state))
            self._seen, self._seen_at = (state, found), asyncio.get_running_loop().time()
            return found

    def _unchanged(self) -> Queue | None:
        """Return what was seen last, if it still holds."""
        if self._seen is None:
            return None
        state, found = self._schedule.state(), self._seen[1]
        aged = self._schedule.now_ms - found.at_ms >= STALE_MS
        return None if aged or state != self._seen[0] or self._held(state) != found.enforcement else found

    def _held(self, state: State) -> dict[tuple[str, NodeId], tuple[str, ...]]:
        return {(one.ask, one.node): self._schedule.enforcement(one.ask, one.node) for one in state.leases}

    async def of_job(self, job: JobId) -> tuple[Waiting, ...]:
        """Return what a job waits for."""
        if not self._schedule.asks_of(job):
            return ()
        return tuple(one for one in (await self.look()).waiting if one.ask.job == job)

    async def history(self, name: str) -> History:
        """Return what is known of an ask, or of the ask of a lease, and prove the (newest) grant.

        Raises:
            NotFound: no such ask, or it was too long ago.
        """
        await self._schedule.journal.flush()
        ask_id, node, start_ms = ask_of(name)
        rows, proof = await self._store.read(lambda tx: _history(tx, ask_id, node, start_ms))
        asked = [row for row in rows if isinstance(row.event, Asked)]
        if not asked or not isinstance(asked[-1].event, Asked):
            raise NotFound(f"no ask {ask_id[:80]!r} in the scheduler's journal", next_step="hansa queue")
        ask = proof.ask if proof is not None else asked[-1].event.ask
        waiting = next((one for one in await self.of_job(ask.job) if one.ask.id == ask_id), None)
        held = tuple(lease for lease in self._schedule.leases() if lease.ask == ask_id)
        return History(ask, asked[0].at_ms, waiting, held, rows, proof)


def _look(state: State, at_ms: int, held: Mapping[tuple[str, NodeId], tuple[str, ...]]) -> Queue:
    sight = foresee(state, at_ms, HORIZON_MS)
    waiting = [Waiting(ask, sight.waits[ask.id], sight.starts[ask.id]) for ask in state.asks]
    never = at_ms + 2 * HORIZON_MS
    waiting.sort(key=lambda one: (one.forecast_ms or never, one.ask.submit_ms, one.ask.id))
    leases = sorted(state.leases, key=lambda lease: (lease.start_ms, lease.ask, lease.node))
    return Queue(at_ms, state.policy, tuple(waiting), tuple(leases), held, sight.idle)


def _history(tx: Tx, ask: str, node: str, start_ms: int | None) -> tuple[tuple[Entry, ...], Proof | None]:
    rows = tuple(tx.schedule.of_ask(ask))
    grants = [row for row in rows if isinstance(row.event, Started) and _means(row.event, node, start_ms)]
    return rows, _proof(tx, grants[-1]) if grants else None


def _means(event: Started, node: str, start_ms: int | None) -> bool:
    return not node or any(lease.node == node and start_ms in {None, lease.start_ms} for lease in event.leases)


def _proof(tx: Tx, row: Entry) -> Proof | None:
    """Make the decision of a row again."""
    try:
        fold = fold_before(tx, row.seq)
    except Corrupted:
        return None  # what led to it was pruned; the row itself still stands
    before, turn = fold.before_turn(), list(fold.open)
    last = row.seq
    while page := [entry for entry in tx.schedule.entries(last - 1, 500) if entry.turn == row.turn]:
        turn += page
        last = page[-1].seq + 1
    decisions = decide(before, row.at_ms)
    made = decided(decisions)
    reasons = {one.ask: one.reason for one in decisions if isinstance(one, Wait)}
    outcomes = {event.ask: _outcome(event) for event in made}
    asks = {ask.id: ask for ask in before.asks}
    if not isinstance(row.event, Started) or row.ask not in asks:
        return None
    others = {name: outcomes.get(name) or reasons.get(name, "waited on") for name in asks if name != row.ask}
    holds = made == tuple(entry.event for entry in turn)
    return Proof(row.seq, row.at_ms, holds, before, asks[row.ask], row.event.leases, others)


def _outcome(event: Started | Expired | Revoked) -> str:
    return f"got {len(event.leases)} nodes too" if isinstance(event, Started) else "lost a lease"


def words(row: Entry) -> str:
    """Return a row of an ask's history for people."""
    match row.event:
        case Asked(ask):
            said = f"asked for {ask.m} to {ask.n} nodes for at most {ask.bound_ms / 1000:g} s"
        case Started(_, leases):
            said = f"granted {len(leases)} nodes"
        case Expired(_, node):
            said = f"the lease of {node} ran out"
        case Revoked(_, node, reason):
            said = f"the lease of {node} was taken back: {reason}"
        case Ended(_, node, reason, enforcement):
            held = f", held by {', '.join(enforcement)}" if enforcement else ""
            said = f"{node} is free again: {reason.replace('_', ' ')}{held}"
        case _:
            said = row.kind
    return said
