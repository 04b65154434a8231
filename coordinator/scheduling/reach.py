"""Which nodes an ask could ever use, and how many of them have room for it right now.

Asks of one need, one set of candidates and one set of labels have the same reach.  The counts are kept up to date from
the rows that changed, so that a pass looks only at the asks that may fit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from common.ids import NodeId, TenantId
from coordinator.scheduling.pool import Pool
from coordinator.scheduling.records import Ask, Need
from coordinator.scheduling.stock import Bools, Ints, Task, grown

ReachKey = tuple[Need, tuple[NodeId, ...] | None, frozenset[str]]
WORTH = 1 << 20
MOST_ASLEEP = 256


@dataclass(slots=True, eq=False)
class Reach:
    """The nodes that could serve a need if nothing ran there."""

    key: ReachKey
    number: int
    able: Ints = field(default_factory=lambda: np.zeros(0, np.int64))  # rows, in order
    mask: Bools = field(default_factory=lambda: np.zeros(0, np.bool_))  # the same, if there are no candidates
    sites: dict[TenantId, int] = field(default_factory=dict)  # nodes by site
    worth: int = 0  # what each node is worth to it, as it stands in the prices
    users: int = 0  # queues that wait


@dataclass(slots=True, eq=False)
class Fit:
    """The rows that have room for one task of a need right now, as of a place in ``Pool.touched``."""

    task: Task
    room: Bools
    seen: int
    anywhere: list[Reach] = field(default_factory=list)  # without candidates
    through: dict[int, dict[int, Reach]] = field(default_factory=dict)  # with candidates, by row and number
    reaches: int = 0

    def named(self, rows: Ints) -> list[int]:
        """Return the numbers of the reaches that name ``rows`` as candidates, once for each row."""
        through = self.through
        return [number for row in rows.tolist() if row in through for number in through[row]] if through else []


class Reaches:
    """All reaches that somebody waits for, and what each node is worth to them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._reaches: dict[ReachKey, Reach] = {}
        self._fits: dict[Need, Fit] = {}
        self._named: dict[NodeId, dict[int, Reach]] = {}  # by candidate and number
        self._asleep: dict[int, Reach] = {}  # without users, the longest asleep first
        self._spare: list[int] = []  # numbers that are free again
        self.by_number: list[Reach | None] = []
        self.moved: set[int] = set()  # numbers of the reaches that came to other sites; whoever follows them clears it
        self.count: Ints = np.zeros(0, np.int64)  # rows with room, by reach, as of the last look
        self.supply: Ints = np.zeros(0, np.int64)  # rows at all, by reach
        self.price: Ints = np.zeros(0, np.int64)  # by row: the scarcer for those who wait, the dearer

    def join(self, ask: Ask) -> Reach:
        """Return the reach of ``ask``, made if there is none; ``leave`` it when nobody waits for it any more."""
        key = (ask.need, ask.candidates, ask.labels)
        reach = self._reaches.get(key)
        if reach is None:
            reach = self._reaches[key] = self._make(key)
        if not reach.users:
            self._asleep.pop(reach.number, None)
            self.price[reach.able] += reach.worth
        reach.users += 1
        return reach

    def leave(self, reach: Reach) -> None:
        """Count one user less; a reach that nobody uses is remembered for a while, as rounds come again."""
        reach.users -= 1
        if reach.users:
            return
        self.price[reach.able] -= reach.worth
        self._asleep[reach.number] = reach
        if len(self._asleep) > MOST_ASLEEP:
            self._forget(self._asleep.pop(next(iter(self._asleep))))

    def node_came(self, row: int) -> None:
        """Let those reach a new row who can use it."""
        node = self._pool.nodes[row]
        assert node is not None  # noqa: S101  (it just came)
        named = self._named.get(node.id, {})
        anywhere = {reach.number: reach for fit in self._fits.values() for reach in fit.anywhere}
        for reach in (*anywhere.values(), *named.values()):
            if self._able(reach.key, np.array([row])).size:
                self._set_able(reach, np.union1d(reach.able, [row]))

    def node_left(self, row: int) -> None:
        """Let nobody reach a row any more."""
        for fit in self._fits.values():
            for reach in (*fit.anywhere, *fit.through.get(row, {}).values()):
                self._set_able(reach, reach.able[reach.able != row])

    def fit(self, reach: Reach) -> Fit:
        """Return which rows have room for the reach's need, brought up to date."""
        fit = self._fits[reach.key[0]]
        self._follow(fit)
        return fit

    def follow(self) -> None:
        """Bring all counts up to date with the rows that changed."""
        self._grow()
        for fit in self._fits.values():
            self._follow(fit)
            fit.seen = 0
        self._pool.touched.clear()

    def among(self, rows: Ints) -> Ints:
        """Return how many of ``rows`` each reach has, by number."""
        named = [number for fit in self._fits.values() for number in fit.named(rows)]
        count: Ints = np.bincount(np.array(named, np.int64), minlength=len(self.count))
        for fit in self._fits.values():
            for reach in fit.anywhere:
                count[reach.number] = np.count_nonzero(reach.mask[rows])
        return count

    def _make(self, key: ReachKey) -> Reach:
        need, candidates, _ = key
        fit = self._fits.get(need)
        if fit is None:
            kind = self._pool.kinds.setdefault(need.kind, len(self._pool.kinds) + 1)
            task = Task(need, kind)
            fit = self._fits[need] = Fit(task, self._pool.free.fits(task), len(self._pool.touched))
        fit.reaches += 1
        number = self._spare.pop() if self._spare else len(self.by_number)
        if number == len(self.by_number):
            self.by_number.append(None)
        if number >= len(self.count):
            size = max(64, 2 * number)
            self.count, self.supply = grown(self.count, (size,)), grown(self.supply, (size,))
        reach = self.by_number[number] = Reach(key, number)
        if candidates is None:
            fit.anywhere.append(reach)
        for node in candidates or ():
            self._named.setdefault(node, {})[number] = reach
        self._set_able(reach, self._able(key, self._rows(candidates)))
        return reach

    def _forget(self, reach: Reach) -> None:
        need, candidates, _ = reach.key
        self._set_able(reach, np.zeros(0, np.int64))
        for node in candidates or ():
            del self._named[node][reach.number]
        fit = self._fits[need]
        if candidates is None:
            fit.anywhere.remove(reach)
        fit.reaches -= 1
        if not fit.reaches:
            del self._fits[need]
        del self._reaches[reach.key]
        self.by_number[reach.number] = None
        self._spare.append(reach.number)

    def _rows(self, candidates: tuple[NodeId, ...] | None) -> Ints:
        row = self._pool.row
        return np.array(
            sorted(row.values() if candidates is None else (row[c] for c in candidates if c in row)), np.int64
        )

    def _able(self, key: ReachKey, rows: Ints) -> Ints:
        need, _, labels = key
        if labels:
            rows = rows[[labels <= self._pool.nodes[row].labels for row in rows.tolist()]]
        whole = self._pool.total if len(rows) == len(self._pool.nodes) else self._pool.total.at(rows)
        return rows[whole.fits(self._fits[need].task)]

    def _set_able(self, reach: Reach, able: Ints) -> None:
        """Change who is in reach, and with it the count, the supply and the prices."""
        fit = self._fits[reach.key[0]]
        self._grow()
        if reach.users:
            self.price[reach.able] -= reach.worth
        if reach.key[1] is not None:
            for row in reach.able.tolist():
                del fit.through[row][reach.number]
            for row in able.tolist():
                fit.through.setdefault(row, {})[reach.number] = reach
        else:
            reach.mask = np.zeros(len(self._pool.nodes), np.bool_)
            reach.mask[able] = True
        reach.able, reach.worth = able, WORTH // max(1, len(able))
        before = reach.sites.keys()
        numbers, counts = np.unique(self._pool.site[able], return_counts=True)
        reach.sites = {self._pool.site_names[n]: c for n, c in zip(numbers.tolist(), counts.tolist(), strict=True)}
        if before != reach.sites.keys():
            self.moved.add(reach.number)
        if reach.users:
            self.price[able] += reach.worth
        self.supply[reach.number] = len(able)
        self.count[reach.number] = fit.room[able].sum()

    def _grow(self) -> None:
        size = len(self._pool.nodes)
        if len(self.price) < size:
            self.price = grown(self.price, (size,))
            for reach in (reach for fit in self._fits.values() for reach in fit.anywhere):
                reach.mask = grown(reach.mask, (size,))
        for fit in self._fits.values():
            if len(fit.room) < size:  # its reaches may be asleep: nobody looked since
                fit.room = grown(fit.room, (size,))

    def _follow(self, fit: Fit) -> None:
        touched = self._pool.touched
        if fit.seen == len(touched):
            return
        if len(fit.room) < len(self._pool.nodes):
            fit.room = grown(fit.room, (len(self._pool.nodes),))
        rows = np.array(list(set(touched[fit.seen :])))
        fit.seen = len(touched)
        after = self._pool.free.at(rows).fits(fit.task)
        flipped = np.flatnonzero(fit.room[rows] != after)
        if not flipped.size:
            return
        fit.room[rows] = after
        rows, has = rows[flipped], after[flipped]
        for changed, by in ((rows[has], 1), (rows[~has], -1)):
            for reach in fit.anywhere:
                self.count[reach.number] += by * np.count_nonzero(reach.mask[changed])
            for number in fit.named(changed):
                self.count[number] += by
