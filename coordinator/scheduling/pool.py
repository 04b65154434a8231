"""The nodes that are there and the leases on them, as rows that can be looked at all at once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter

import numpy as np

from common.ids import NodeId, TenantId
from coordinator.scheduling.records import Lease, Node
from coordinator.scheduling.stock import Ints, Stock, Task, grown

NEVER_MS = 1 << 60


class Pool:
    """Rows of nodes: what they have, what is free now, and when the leases on them end."""

    def __init__(self) -> None:
        self.nodes: list[Node | None] = []
        self.row: dict[NodeId, int] = {}
        self.devices: list[list[str]] = []  # ids by row and column
        self.columns: list[dict[str, int]] = []  # device -> column, by row
        self.kinds: dict[str, int] = {}
        self.sites: dict[TenantId, int] = {}
        self.site_names: list[TenantId] = []
        self.total, self.free = Stock.empty(0, 1), Stock.empty(0, 1)
        self.site: Ints = np.zeros(0, np.int64)
        self.leases: dict[tuple[str, NodeId], Lease] = {}
        self.touched: list[int] = []  # rows whose free amounts changed; those who follow keep their place in it
        self.running: Counter[str] = Counter()  # leases by ask
        self._on: dict[NodeId, dict[str, Lease]] = {}
        self._first_end: Ints = np.zeros(0, np.int64)  # ms; of the leases on a row
        self._device_end: Ints = np.zeros((0, 1), np.int64)  # ms; when a device is wholly free
        self._unseen: list[tuple[Ints, Ints, int]] = []  # rows, columns and end of leases that are not in these two yet
        self._spare: list[int] = []  # rows without a node, the lowest last
        self._by_speed: list[tuple[float, NodeId, int]] = []
        self._rank: Ints | None = None
        self._ends: list[tuple[int, str, NodeId]] = []
        self._fresh: list[tuple[int, str, NodeId]] = []

    # -- nodes

    def put(self, node: Node) -> int:
        """Give ``node`` a row; the leases that it holds already take their part of it."""
        if not self._spare or len(node.devices) > self.total.devices.shape[2]:
            self._grow(len(node.devices))
        row = self._spare.pop()
        self.nodes[row], self.row[node.id] = node, row
        self.total.set_row(row, node, self.kinds)
        self.free.set_row(row, node, self.kinds)
        self.devices[row] = sorted(device.id for device in node.devices)
        self.columns[row] = {device: column for column, device in enumerate(self.devices[row])}
        if node.site not in self.sites:
            self.sites[node.site] = len(self.site_names)
            self.site_names.append(node.site)
        self.site[row] = self.sites[node.site]
        insort(self._by_speed, (-node.speed, node.id, row))
        self._rank = None
        for lease in self.on(node.id):
            self._change(row, lease, -1)
        self._look_at_ends(row)
        self.touched.append(row)
        return row

    def remove(self, node: NodeId) -> int:
        """Take a node's row away and return it; its leases stay held until they end."""
        row = self.row.pop(node)
        gone = self.nodes[row]
        assert gone is not None  # noqa: S101  (rows in use have a node)
        nothing = Node(node, gone.site, 0, 0, 0)
        self.total.set_row(row, nothing, self.kinds)
        self.free.set_row(row, nothing, self.kinds)
        self.nodes[row], self.devices[row], self.columns[row] = None, [], {}
        del self._by_speed[bisect_left(self._by_speed, (-gone.speed, node, row))]
        self._rank = None
        self._spare.append(row)
        self.touched.append(row)
        return row

    def rank(self) -> Ints:
        """Return each row's place among the nodes, the fastest first, then by id."""
        if self._rank is None:
            self._rank = np.zeros(len(self.site), np.int64)
            self._rank[[row for _, _, row in self._by_speed]] = np.arange(len(self._by_speed))
        return self._rank

    # -- leases

    def give(self, lease: Lease) -> None:
        """Book a lease on its node's row, if the node is there."""
        self.leases[lease.ask, lease.node] = lease
        self._on.setdefault(lease.node, {})[lease.ask] = lease
        self.running[lease.ask] += 1
        self._fresh.append((lease.until_ms, lease.ask, lease.node))
        row = self.row.get(lease.node)
        if row is not None:
            self._change(row, lease, -1)
            self._see_end(row, lease)

    def start(self, leases: list[Lease], task: Task, rows: Ints, columns: Ints, mib: Ints) -> None:
        """Book the leases of one ask at once: the same as ``give`` for each."""
        ask, until_ms = leases[0].ask, leases[0].until_ms
        held, on = self.leases, self._on
        for lease in leases:
            node = lease.node
            held[ask, node] = lease
            if node in on:
                on[node][ask] = lease
            else:
                on[node] = {ask: lease}
        self._fresh += [(until_ms, ask, lease.node) for lease in leases]
        self.running[ask] += len(leases)
        self.free.take(rows, task, columns, mib)
        self.touched += rows.tolist()
        self._unseen.append((rows, columns, until_ms))

    def drop(self, lease: Lease) -> None:
        """Give back what a lease holds."""
        del self.leases[lease.ask, lease.node]
        del self._on[lease.node][lease.ask]
        self.running[lease.ask] -= 1
        if not self.running[lease.ask]:
            del self.running[lease.ask]
        if not self._on[lease.node]:
            del self._on[lease.node]
        ends, entry = self.ends(), (lease.until_ms, lease.ask, lease.node)
        place = bisect_left(ends, entry)
        if place < len(ends) and ends[place] == entry:  # else it was taken from there because it ran out
            del ends[place]
        row = self.row.get(lease.node)
        if row is not None:
            self._change(row, lease, +1)
            self._look_at_ends(row)

    def on(self, node: NodeId) -> list[Lease]:
        """Return the leases on a node, the first to end first."""
        leases = list(self._on.get(node, {}).values())
        return leases if len(leases) < 2 else sorted(leases, key=lambda lease: (lease.until_ms, lease.ask))

    def ends(self) -> list[tuple[int, str, NodeId]]:
        """Return when each lease ends, in order."""
        if len(self._fresh) > 32:
            self._ends += self._fresh
            self._ends.sort()
        else:
            for entry in self._fresh:
                insort(self._ends, entry)
        self._fresh.clear()
        return self._ends

    def row_ends(self) -> tuple[Ints, Ints]:
        """Return when the first lease on each row ends, and when each of its devices is wholly free, in ms."""
        for rows, columns, until_ms in self._unseen:
            self._first_end[rows] = np.minimum(self._first_end[rows], until_ms)
            if columns.size:
                taken = rows[:, None], columns
                self._device_end[taken] = np.maximum(self._device_end[taken], until_ms)
        self._unseen.clear()
        return self._first_end, self._device_end

    def run_out(self, now_ms: int) -> list[Lease]:
        """Return the leases that have run out, in order; the caller drops them."""
        ends = self.ends()
        count = bisect_left(ends, (now_ms + 1,))
        gone = [self.leases[ask, node] for _, ask, node in ends[:count]]
        del ends[:count]
        return gone

    def _grow(self, devices: int) -> None:
        old, width = len(self.nodes), max(self.total.devices.shape[2], devices)
        size = old if self._spare else max(64, 2 * old)
        self.total, self.free = self.total.grown(size, width), self.free.grown(size, width)
        self.site, self._first_end = grown(self.site, (size,)), grown(self._first_end, (size,))
        self._device_end = grown(self._device_end, (size, width))
        self.nodes += [None] * (size - old)
        self.devices += [[] for _ in range(size - old)]
        self.columns += [{} for _ in range(size - old)]
        self._spare = [*range(size - 1, old - 1, -1), *self._spare]
        self._rank = None

    def _change(self, row: int, lease: Lease, sign: int) -> None:
        self.free.change(row, lease.need, lease.slices, self.columns[row], sign)
        self.touched.append(row)

    def _look_at_ends(self, row: int) -> None:
        self.row_ends()
        self._first_end[row], self._device_end[row] = NEVER_MS, 0
        node = self.nodes[row]
        for lease in self.on(node.id) if node else ():
            self._see_end(row, lease)

    def _see_end(self, row: int, lease: Lease) -> None:
        if lease.until_ms < self._first_end[row]:
            self._first_end[row] = lease.until_ms
        for piece in lease.slices:
            column = self.columns[row].get(piece.device)
            if column is not None and lease.until_ms > self._device_end[row, column]:
                self._device_end[row, column] = lease.until_ms
