"""What is free on many nodes at once, one row each, down to the slices of their devices.

A need of up to 1000 milli-GPU comes from one device, the one with the least left that holds it; more than that is
whole devices, and a whole device brings all of its memory.  A part of one whose need names no memory takes its share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from coordinator.scheduling.records import WHOLE, Need, Node, Slice

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Stock:
    """Amounts by row; the devices of a row are columns, in the order of their ids."""

    slots: Ints
    cpu_milli: Ints
    ram_mib: Ints
    milli: Ints  # (rows, devices)
    mib: Ints
    kind: Ints  # a number for each kind of accelerator; 0 = no device
    full_mib: Ints  # of the device when nothing runs there

    @classmethod
    def empty(cls, rows: int, devices: int) -> Stock:
        """Return the stock of ``rows`` nodes that have nothing."""
        flat = (np.zeros(rows, np.int64) for _ in range(3))
        square = (np.zeros((rows, devices), np.int64) for _ in range(4))
        return cls(*flat, *square)

    def grown(self, rows: int, devices: int) -> Stock:
        """Return a copy with room for more rows and devices, which are empty."""
        flat = (grown(a, (rows,)) for a in (self.slots, self.cpu_milli, self.ram_mib))
        square = (grown(a, (rows, devices)) for a in (self.milli, self.mib, self.kind, self.full_mib))
        return Stock(*flat, *square)

    def at(self, rows: Ints) -> Stock:
        """Return a copy of some rows."""
        return Stock(
            self.slots[rows], self.cpu_milli[rows], self.ram_mib[rows], self.milli[rows], self.mib[rows],
            self.kind[rows], self.full_mib[rows],
        )  # fmt: skip

    def set_row(self, row: int, node: Node, kinds: dict[str, int]) -> None:
        """Make ``row`` what ``node`` has when nothing runs there."""
        self.slots[row], self.cpu_milli[row], self.ram_mib[row] = node.slots, node.cpu_milli, node.ram_mib
        for square in (self.milli, self.mib, self.kind, self.full_mib):
            square[row] = 0
        for column, device in enumerate(sorted(node.devices, key=lambda d: d.id)):
            self.milli[row, column], self.mib[row, column] = device.milli, device.mib
            self.kind[row, column] = kinds.setdefault(device.kind, len(kinds) + 1)
            self.full_mib[row, column] = device.mib

    def change(self, row: int, need: Need, slices: tuple[Slice, ...], columns: dict[str, int], sign: int) -> None:
        """Take one task's amounts from a row (``sign`` -1) or give them back (+1)."""
        self.slots[row] += sign
        self.cpu_milli[row] += sign * need.cpu_milli
        self.ram_mib[row] += sign * need.ram_mib
        for piece in slices:
            column = columns.get(piece.device)
            if column is not None:  # else the device went away under the lease
                self.milli[row, column] += sign * piece.milli
                self.mib[row, column] += sign * piece.mib

    def take(self, need: Need, columns: Ints, mib: Ints) -> None:
        """Take one task of ``need`` from every row, its devices as ``choose`` chose them."""
        self.slots[:] -= 1
        self.cpu_milli[:] -= need.cpu_milli
        self.ram_mib[:] -= need.ram_mib
        rows = np.arange(len(self.slots))[:, None]
        self.milli[rows, columns] -= min(need.milli, WHOLE)
        self.mib[rows, columns] -= mib

    def cap(self, rows: Ints, other_rows: Ints, other: Stock) -> None:
        """Lower the rows that ``other`` has too to the least of both; the two lists say which rows these are."""
        mine = np.flatnonzero(np.isin(rows, other_rows))
        if mine.size:
            place = {row: i for i, row in enumerate(other_rows.tolist())}
            lower = least(self.at(mine), other.at(np.array([place[row] for row in rows[mine].tolist()])))
            self.slots[mine], self.cpu_milli[mine], self.ram_mib[mine] = lower.slots, lower.cpu_milli, lower.ram_mib
            self.milli[mine], self.mib[mine] = lower.milli, lower.mib

    def fits(self, need: Need, kind: int) -> Bools:
        """Return which rows have room for one task of ``need``."""
        ok = (self.slots >= 1) & (self.cpu_milli >= need.cpu_milli) & (self.ram_mib >= need.ram_mib)
        if need.milli:
            ok &= self._devices(need, kind)[0].sum(axis=1) >= max(1, need.milli // WHOLE)
        return ok

    def choose(self, need: Need, kind: int) -> tuple[Ints, Ints]:
        """Return, for rows that have room, the columns of the devices to take and the MiB to take of each."""
        count = -(-need.milli // WHOLE)
        ok, wanted = self._devices(need, kind)
        tightness = np.where(ok, (self.milli << 42) + self.mib, np.iinfo(np.int64).max)
        columns = np.argsort(tightness, axis=1, kind="stable")[:, :count]
        return columns, np.take_along_axis(wanted, columns, axis=1)

    def _devices(self, need: Need, kind: int) -> tuple[Bools, Ints]:
        each = min(need.milli, WHOLE)
        if each == WHOLE:
            wanted = self.full_mib
        elif need.mib:
            wanted = np.full_like(self.full_mib, need.mib)
        else:
            wanted = self.full_mib * each // WHOLE
        ok = (self.kind == kind) & (self.milli >= each) & (self.mib >= wanted) & (wanted >= need.mib)
        return ok, wanted


def grown(array: NDArray[Number], shape: tuple[int, ...]) -> NDArray[Number]:
    """Return a copy of ``array`` in the corner of a larger array of zeros."""
    larger = np.zeros(shape, array.dtype)
    larger[tuple(slice(0, size) for size in array.shape)] = array
    return larger


def least(one: Stock, other: Stock) -> Stock:
    """Return what is free in both: whatever fits there fits in either, with the same slices."""
    return Stock(
        np.minimum(one.slots, other.slots),
        np.minimum(one.cpu_milli, other.cpu_milli),
        np.minimum(one.ram_mib, other.ram_mib),
        np.minimum(one.milli, other.milli),
        np.minimum(one.mib, other.mib),
        one.kind,
        one.full_mib,
    )
