"""One pass over those who wait, in the order of their keys, and the decision that passes add up to.

An ask that fits starts.  The first that does not gets a reservation, and whatever comes after it may take only what
delays nobody (EASY backfill).  Passes are repeated until nothing more starts, so that a second decision is empty.
Nothing is looked at twice in a pass: amounts only shrink and reservations only grow, so who did not fit does not later.

Source:
    Mu'alem and Feitelson 2001 (EASY backfilling); Liu et al. 2025, "Venn" (the scarcest nodes last).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from common.ids import TenantId
from coordinator.scheduling.accounts import most
from coordinator.scheduling.line import BORROWS, DEMOTED, INSIDE, Key, Queue
from coordinator.scheduling.pick import Picked, Rooms, leases, pick
from coordinator.scheduling.reach import Fit, Reach
from coordinator.scheduling.records import Ask, Decision, Expire, Lease, Start, Wait
from coordinator.scheduling.reserve import Kept, reserve
from coordinator.scheduling.rooms import kept_rooms
from coordinator.scheduling.stock import MILLI, Ints
from coordinator.scheduling.world import World

Entry = tuple[int, float, float, int, str, int]  # a key and the row of its queue
FEW = 32  # rows that were used up, after which the others are looked through
MANY = 256  # rows, from which on it pays to look at those of a site alone
NO_BOUND = 1 << 60
MOST_RESERVED = 8  # asks that nodes are kept for, where their nodes have nothing in common


@dataclass(slots=True)
class Started:
    """An ask that starts, the key it had, and the leases it has so far."""

    ask: Ask
    key: Key
    leases: list[Lease]


def run(world: World, now_ms: int) -> tuple[Decision, ...]:
    """Decide, and change ``world`` accordingly: what ran out has ended, what fits has started."""
    expired, started, last = settle(world, now_ms)
    starts = (Start(s.ask, tuple(s.leases)) for s in started)
    return (*(Expire(lease) for lease in expired), *starts, *last.waits)


def settle(world: World, now_ms: int) -> tuple[list[Lease], list[Started], Pass]:
    """Change ``world`` until nothing more ends or starts; return what did, and the last pass, in which nothing did."""
    world.rebase(now_ms, idle=True)
    expired = world.pool.run_out(now_ms)
    for lease in expired:
        world.drop(lease, lease.until_ms)
    world.refresh()
    order = _order(world)
    started: list[Started] = []
    while True:
        one = Pass(world, now_ms, order, started)
        one.walk()
        if not (one.again or one.top_up()):
            break
        world.refresh()
    if expired or started:
        world.rebase(now_ms, idle=False)
    return expired, started, one


def _order(world: World) -> Ints:
    """Return each row's place when several would do: the least wanted by others, then the fullest, then the fastest."""
    bits = max(17, len(world.pool.nodes).bit_length())
    price = np.minimum(world.reaches.price, (1 << (47 - bits)) - 1)
    milli = np.clip(world.pool.free.devices[MILLI].sum(axis=1), 0, (1 << 16) - 1)
    order: Ints = (price << (16 + bits)) + (milli << bits) + world.pool.rank()
    return order


class Pass:
    """One walk over the queues, the smallest key first."""

    def __init__(self, world: World, now_ms: int, order: Ints, started: list[Started]) -> None:
        self.world, self.now_ms, self.order, self.started = world, now_ms, order, started
        self.kept = Kept(world.pool)
        self.waits: list[Wait] = []
        self.again = False  # whether another pass may start more
        line, reaches = world.line, world.reaches
        self._can = line.live & (reaches.count[line.reach] >= line.m)  # may fit
        admitted = reaches.supply[line.reach] - line.barred
        self._closed = ~line.live | (admitted < line.m)  # neither starts nor keeps nodes
        self._in_the_way = np.zeros(len(reaches.count), np.int64)  # reservations that keep some of it, by reach
        self._kept_rows = np.zeros(len(reaches.count), np.int64)  # nodes that they keep of it
        self._heap: list[Entry] = []
        self._blocked: tuple[Key, Queue] | None = None  # the first that does not fit, once it is known
        self._blocked_known = False
        self._sorted: dict[int, Ints] = {}  # rows of a reach that had room at first, the best first
        self._at_site: dict[tuple[int, TenantId], Ints] = {}  # the same, of a reach at a site
        self._served: set[TenantId] = set()  # whose keys have changed
        self._moved = self._held_back = False

    def walk(self) -> None:
        """Start what fits, and keep nodes for the first that do not."""
        line, rows = self.world.line, np.flatnonzero(self._can & ~self._closed)
        ranks, shares = line.rank[rows].tolist(), line.share[rows].tolist()
        for row, rank, share in zip(rows.tolist(), ranks, shares, strict=True):
            self._heap.append((rank, share, *self._queue(row).asks[0][:3], row))
        heapq.heapify(self._heap)
        while True:
            blocked = self._first_blocked()
            if blocked is not None and (not self._heap or blocked[0] < self._heap[0][:5]):
                self._block(*blocked)
            elif self._heap:
                first = heapq.heappop(self._heap)
                row = first[5]
                if self._can[row]:  # else an equal did not fit
                    self._try(first[:5], self._queue(row))
            else:
                break
        self.again = self._moved and bool(self.kept.reserved or self._held_back)

    def top_up(self) -> bool:
        """Give what started within its guarantee what it wants beyond it, up to n nodes; tell whether any was given."""
        given = False
        self._sorted.clear()  # a reach that was left may have given its number to another
        others = np.ones(len(self.world.pool.nodes), np.bool_)
        for started in self.started:
            ask = started.ask
            if started.key[0] == INSIDE and len(started.leases) < ask.n:
                reach = self.world.reaches.join(ask)
                key = (BORROWS, self.world.accounts.share(ask.tenant, reach.sites), *started.key[2:])
                mine = [self.world.pool.row[lease.node] for lease in started.leases]
                fit = self.world.reaches.fit(reach)
                rows = self._in_order(reach, fit)
                others[mine] = False
                more = self._pick(ask, reach, fit, key, ask.n - len(mine), rows[others[rows]])
                others[mine] = True
                started.leases += self._give(ask, reach, fit, more)
                given = given or more is not None
                self.world.reaches.leave(reach)
                if not reach.users:
                    del self._sorted[reach.number]  # which the next reach may get
        return given

    # -- those that may fit

    def _try(self, key: Key, queue: Queue) -> None:
        if self.world.reaches.count[queue.reach.number] < queue.name[2]:
            self._cannot(queue)
            return
        if queue.tenant in self._served:
            now = self.world.key(queue, DEMOTED if key[0] == DEMOTED else INSIDE)
            if now != key:
                heapq.heappush(self._heap, (*now, queue.row))
                return
        ask = queue.head
        fit = self.world.reaches.fit(queue.reach)
        picked = self._pick(ask, queue.reach, fit, key, ask.n, self._in_order(queue.reach, fit))
        if picked is not None and len(picked.rows) >= ask.m:
            self._start(queue, fit, key, picked)
        else:
            self._fail(queue, fit, key)

    def _pick(self, ask: Ask, reach: Reach, fit: Fit, key: Key, n: int, rows: Ints) -> Picked | None:
        world, until_ms = self.world, self.now_ms + ask.bound_ms
        if key[0] == INSIDE:
            rooms = Rooms(world.accounts.guarantee_rooms(ask.tenant, reach.sites, ask.need), 0)
            rows = self._at(reach, rows, rooms.named)
        else:
            named, held_back = kept_rooms(world, ask, reach.sites, key, self.kept.reserved, until_ms)
            self._held_back = self._held_back or held_back
            rooms = Rooms(named, n)
        return pick(world.pool, fit, rows, self.kept, until_ms, rooms, n)

    def _start(self, queue: Queue, fit: Fit, key: Key, picked: Picked) -> None:
        ask = queue.head
        self.started.append(Started(ask, key, self._give(ask, queue.reach, fit, picked)))
        self._moved = True
        self._served.add(ask.tenant)
        if self._blocked is not None and self._blocked[1].tenant == ask.tenant:
            self._blocked_known = False
        row = queue.row
        if self.world.forget(ask.id):
            self._can[row], self._closed[row] = False, True
        else:
            rank, share = self.world.line.rank[row], self.world.line.share[row]
            heapq.heappush(self._heap, (int(rank), float(share), *queue.asks[0][:3], row))

    def _fail(self, queue: Queue, fit: Fit, key: Key) -> None:
        """Let an ask that does not fit try beyond its guarantee, or no more in this pass, as its equals."""
        ask, line = queue.head, self.world.line
        free = self.kept.count(fit, queue.reach.able, self.now_ms + ask.bound_ms)
        if free >= ask.m and key[0] == INSIDE:
            heapq.heappush(self._heap, (DEMOTED, *key[1:], queue.row))
            return
        self._cannot(queue)
        if free < ask.m:
            self._blocked_known = False
            self._can &= ~((line.reach == queue.reach.number) & (line.m >= ask.m) & (line.bound_ms >= ask.bound_ms))

    def _cannot(self, queue: Queue) -> None:
        """Let a queue try no more in this pass; it may be the first now that nodes are kept for."""
        self._can[queue.row] = False
        if self._blocked_known and not self._closed[queue.row]:
            key = self.world.key(queue, DEMOTED)
            if self._blocked is None or key < self._blocked[0]:
                self._blocked = (key, queue)

    def _give(self, ask: Ask, reach: Reach, fit: Fit, picked: Picked | None) -> list[Lease]:
        if picked is None:
            return []
        guaranteed = self.world.accounts.guarantee_rooms(ask.tenant, reach.sites, ask.need)
        chosen = leases(self.world.pool, ask, picked, self.now_ms, guaranteed)
        self.world.start(chosen, fit.task, picked.rows, picked.columns, picked.mib)
        self.kept.take(chosen, picked.rows)
        return chosen

    def _in_order(self, reach: Reach, fit: Fit) -> Ints:
        room, rows = fit.room, self._sorted.get(reach.number)
        if rows is None:
            rows = reach.able[room[reach.able]]
            rows = self._sorted[reach.number] = rows[np.argsort(self.order[rows])]
        elif not room[rows[:FEW]].any():
            rows = self._sorted[reach.number] = rows[room[rows]]
        return rows

    def _at(self, reach: Reach, rows: Ints, sites: Iterable[TenantId]) -> Ints:
        """Return those of ``rows``, which are all that the reach has in order, that are at ``sites``."""
        if len(rows) < MANY:
            return rows
        pool, found = self.world.pool, []
        for site in sites:
            its = self._at_site.get((reach.number, site))
            if its is None:
                its = self._at_site[reach.number, site] = rows[pool.site[rows] == pool.sites[site]]
            found.append(its)
        if len(found) < 2:
            return found[0] if found else rows[:0]
        rows = np.concatenate(found)
        return rows[np.argsort(self.order[rows])]

    # -- those that do not

    def _first_blocked(self) -> tuple[Key, Queue] | None:
        while not self._blocked_known:
            line = self.world.line
            queue = line.first(~self._can & ~self._closed)
            if queue is None:
                self._blocked = None
                break
            key = self.world.key(queue, DEMOTED)
            if (max(int(line.rank[queue.row]), DEMOTED), line.share[queue.row]) == key[:2]:
                self._blocked = (key, queue)
                break
            line.rank[queue.row], line.share[queue.row] = key[:2]  # its tenant was served since
        self._blocked_known = True
        return self._blocked

    def _block(self, key: Key, queue: Queue) -> None:
        """Keep nodes for an ask that does not fit, if it is its turn and its tenant's limits admit it."""
        world, ask, reach = self.world, queue.head, queue.reach
        self._closed[queue.row] = True
        self._blocked_known = False
        if len(reach.able) - world.accounts.claim(ask.tenant, reach.sites, ask.need)[1] < ask.m:
            return
        rooms, held_back = kept_rooms(world, ask, reach.sites, key, self.kept.reserved, self.now_ms + ask.bound_ms)
        self._held_back = self._held_back or held_back
        if most(rooms, reach.sites) < ask.m or not world.policy.reservations:
            return
        rows = self.kept.others(reach.able)
        mine = reserve(world.pool, world.reaches.fit(reach), rows, ask, self.now_ms, self.order, rooms)
        if mine is None:
            return
        self.kept.add(mine)
        self.waits.append(Wait(ask.id, "reserved", f"{ask.m} nodes are kept for it", mine.at_ms))
        self._close(mine.rows)

    def _close(self, rows: Ints) -> None:
        """Let those keep no more nodes in whose reach enough are kept: one ask may keep any number, several a third.

        The rest is left to backfill.
        """
        line, reaches, policy = self.world.line, self.world.reaches, self.world.policy
        kept = reaches.among(rows)
        self._in_the_way += kept > 0
        self._kept_rows += kept
        left = np.where(self._kept_rows > 0, reaches.supply - 3 * self._kept_rows, NO_BOUND)
        left[self._in_the_way >= policy.reservations] = -1
        self._closed |= 3 * line.m > left[line.reach]
        if len(self.waits) >= max(MOST_RESERVED, policy.reservations):
            self._closed[:] = True

    def _queue(self, row: int) -> Queue:
        queue = self.world.line.by_row[row]
        assert queue is not None  # noqa: S101  (a row that is live has one)
        return queue
