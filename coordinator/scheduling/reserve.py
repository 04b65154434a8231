"""Nodes kept for an ask that does not fit yet: when it starts at the latest, and what others may take of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from common.ids import TenantId
from coordinator.scheduling.pool import NEVER_MS, Pool
from coordinator.scheduling.reach import Fit
from coordinator.scheduling.records import WHOLE, Ask, Lease, Need
from coordinator.scheduling.stock import Ints, Stock, Task, least


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """Rows kept for an ask from a time on, and what is free there from then on beside it."""

    ask: Ask
    at_ms: int
    rows: Ints
    beyond: Stock
    sites: Mapping[TenantId, int]  # tasks by site
    place: Mapping[int, int]  # of a row among the rows

    def both(self, pool: Pool) -> Stock:
        """Return what is free on the rows now as well as then."""
        return least(pool.free.at(self.rows), self.beyond)


class Kept:
    """The reservations of a pass, and which rows they keep."""

    def __init__(self, pool: Pool) -> None:
        self.reserved: list[Reservation] = []
        self._pool = pool
        self._by: Ints = np.full(len(pool.nodes), -1, np.int64)  # number of the reservation, by row
        self._latest: dict[Need, tuple[Ints, int]] = {}  # when a task must have ended, by row; reservations looked at

    def add(self, reservation: Reservation) -> None:
        """Keep the rows of a reservation."""
        self._by[reservation.rows] = len(self.reserved)
        self.reserved.append(reservation)

    def others(self, rows: Ints) -> Ints:
        """Return those of ``rows`` that are not kept."""
        return rows[self._by[rows] < 0] if self.reserved else rows

    def outlasted(self, rows: Ints, until_ms: int) -> list[Reservation]:
        """Return the reservations on ``rows`` that a lease until ``until_ms`` would outlast."""
        if not self.reserved:
            return []
        by = self._by[rows]
        mine = (self.reserved[number] for number in sorted(set(by[by >= 0].tolist())))
        return [reservation for reservation in mine if reservation.at_ms < until_ms]

    def likely(self, fit: Fit, rows: Ints, until_ms: int) -> Ints:
        """Return ``rows`` without those that are known to have no room for one task until ``until_ms``."""
        rows = rows[fit.room[rows]]
        if not self.reserved:
            return rows
        latest, seen = self._latest.get(fit.task.need, (None, 0))
        if latest is None:
            latest = np.full(len(self._by), NEVER_MS, np.int64)
        for reservation in self.reserved[seen:]:
            full = reservation.rows[~reservation.both(self._pool).fits(fit.task)]
            latest[full] = reservation.at_ms
        self._latest[fit.task.need] = (latest, len(self.reserved))
        return rows[latest[rows] >= until_ms]

    def count(self, fit: Fit, rows: Ints, until_ms: int) -> int:
        """Return how many of ``rows`` have room for one task until ``until_ms``, beside what is reserved."""
        rows = self.likely(fit, rows, until_ms)
        full = [r.rows[~r.both(self._pool).fits(fit.task)] for r in self.outlasted(rows, until_ms)]
        return len(rows) - (int(np.isin(rows, np.concatenate(full)).sum()) if full else 0)

    def take(self, leases: list[Lease], rows: Ints) -> None:
        """Take leases that just started away from what is free on their rows later, where they last that long."""
        for reservation in self.outlasted(rows, leases[0].until_ms):
            for lease, row in zip(leases, rows.tolist(), strict=True):
                if row in reservation.place:
                    place, columns = reservation.place[row], self._pool.columns[row]
                    reservation.beyond.change(place, lease.need, lease.slices, columns, -1)


def reserve(
    pool: Pool, fit: Fit, rows: Ints, ask: Ask, now_ms: int, order: Ints, rooms: Mapping[TenantId, int]
) -> Reservation | None:
    """Return the reservation of the m nodes in reach that are ready first, or None if fewer are left to keep.

    A node is ready when enough of its leases have ended.  Leases end by contract, so the time is a promise.

    Args:
        pool: The nodes.
        fit: Of the ask's need.
        rows: That the ask can use and that are not kept for others.
        ask: That does not fit now.
        now_ms: The time.
        order: Of rows that are ready at the same time, the smallest first.
        rooms: Tasks that the tenant's limits admit, by site; a site that is not named is not bound.
    """
    ready = _in_time(pool, _ready(pool, fit, rows, now_ms, order, ask.m), ask.m, rooms)
    if ready is None:
        return None
    # Those that come last are kept, so that what is idle until then is left to whoever is done in time.
    ready.sort(key=lambda found: (-found[0], order[found[1]]))
    sites = _Sites(pool, rooms, ask.m)
    chosen = [(at_ms, row) for at_ms, row in ready if sites.admits(row)][: ask.m]
    at_ms = max(at_ms for at_ms, _ in chosen)
    mine = np.array([row for _, row in chosen])
    return Reservation(
        ask,
        at_ms,
        mine,
        _beyond(pool, fit.task, mine, at_ms),
        sites.taken,
        {row: i for i, (_, row) in enumerate(chosen)},
    )


class _Sites:
    """The tasks that the limits still admit, by site."""

    def __init__(self, pool: Pool, rooms: Mapping[TenantId, int], m: int) -> None:
        self.taken: dict[TenantId, int] = {}
        self._pool, self._rooms, self._m = pool, rooms, m

    def admits(self, row: int) -> bool:
        """Take one more task at the row's site, if that is admitted and fewer than m are taken in all."""
        site = self._pool.site_names[self._pool.site[row]]
        taken = self.taken.get(site, 0)
        if taken >= self._rooms.get(site, self._m) or self.full():
            return False
        self.taken[site] = taken + 1
        return True

    def full(self) -> bool:
        """Tell whether m tasks are taken."""
        return sum(self.taken.values()) >= self._m


def _in_time(
    pool: Pool, ready: Iterator[tuple[int, int]], m: int, rooms: Mapping[TenantId, int]
) -> list[tuple[int, int]] | None:
    """Return the rows that are ready by the time at which m of them are, within the rooms; None if that never comes."""
    found: list[tuple[int, int]] = []
    in_all, last = _Sites(pool, rooms, m), _Sites(pool, rooms, m)
    for at_ms, row in ready:
        if found and at_ms > found[-1][0]:
            if in_all.full():
                break
            last = _Sites(pool, rooms, m)
        found.append((at_ms, row))
        in_all.admits(row)
        last.admits(row)
        if last.full():
            break  # more that are ready at the very same time make no difference
    return found if in_all.full() else None


def _ready(pool: Pool, fit: Fit, rows: Ints, now_ms: int, order: Ints, m: int) -> Iterator[tuple[int, int]]:
    """Yield when each row is ready and the row, the first first; the search goes no further than it is asked to."""
    earliest = _lower_bound(pool, fit, rows, now_ms)
    found: list[tuple[int, int, int]] = []  # time, order, row: worked out, but later than its bound
    for bound_ms, place, row in _by_bound(earliest, order[rows], rows, m):
        while found and found[0] < (bound_ms, place, row):
            at_ms, _, first = heapq.heappop(found)
            yield at_ms, first
        heapq.heappush(found, (_ready_at(pool, fit, row, bound_ms, now_ms), place, row))
    while found:
        at_ms, _, first = heapq.heappop(found)
        yield at_ms, first


def _lower_bound(pool: Pool, fit: Fit, rows: Ints, now_ms: int) -> Ints:
    """Return, for each row, a time before which it cannot be ready."""
    first_end, device_end = pool.row_ends()
    bound = first_end[rows]
    if fit.task.each == WHOLE:  # the k-th of the devices to be wholly free
        count, (milli, _, kind, full) = fit.task.count, pool.total.devices
        usable = (kind == fit.task.kind) & (milli >= WHOLE) & (full >= fit.task.need.mib)
        ends = np.where(usable[rows], device_end[rows], NEVER_MS)
        ends = np.partition(ends, count - 1, axis=1)[:, count - 1] if ends.shape[1] > 1 else ends[:, 0]
        bound = np.maximum(bound, ends)
    return np.where(fit.room[rows], now_ms, bound)


def _by_bound(bound: Ints, place: Ints, rows: Ints, m: int) -> Iterator[tuple[int, int, int]]:
    """Yield bound, place and row in order, without sorting those that nobody comes to."""
    few = m + 64
    if len(rows) > 2 * few:
        near = bound <= np.partition(bound, few)[few]
        yield from _by_bound(bound[near], place[near], rows[near], len(rows))
        bound, place, rows = bound[~near], place[~near], rows[~near]
    for i in np.lexsort((place, bound)).tolist():
        yield int(bound[i]), int(place[i]), int(rows[i])


def _ready_at(pool: Pool, fit: Fit, row: int, bound_ms: int, now_ms: int) -> int:
    if bound_ms == now_ms:
        return now_ms
    node = pool.nodes[row]
    assert node is not None  # noqa: S101  (it is in somebody's reach)
    leases = pool.on(node.id)
    if len(leases) == 1:
        return leases[0].until_ms  # then nothing runs there
    stock = pool.free.at(np.array([row]))
    for i, lease in enumerate(leases):
        stock.change(0, lease.need, lease.slices, pool.columns[row], +1)
        last = i + 1 == len(leases) or leases[i + 1].until_ms > lease.until_ms
        if last and lease.until_ms >= bound_ms and stock.fits(fit.task)[0]:
            return lease.until_ms
    return NEVER_MS  # its report shrank under its leases


def _beyond(pool: Pool, task: Task, rows: Ints, at_ms: int) -> Stock:
    """Return what is free on the rows at a time if nothing else starts, beside one task each."""
    stock, empty = pool.free.at(rows), []
    for i, row in enumerate(rows.tolist()):
        node = pool.nodes[row]
        leases = pool.on(node.id) if node else []
        ended = [lease for lease in leases if lease.until_ms <= at_ms]
        if leases and len(ended) == len(leases):
            empty.append(i)
            continue
        for lease in ended:
            stock.change(i, lease.need, lease.slices, pool.columns[row], +1)
    whole = pool.total.at(rows[empty])
    stock.flat[:, empty], stock.devices[:, empty] = whole.flat, whole.devices
    stock.take(np.arange(len(rows)), task, *stock.choose(task))
    return stock
