"""What is free on many nodes at once, down to the slices of their devices.

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

MILLI, MIB, KIND, FULL = range(4)  # of a device: free milli-GPU, free MiB, a number for its kind (0 = none), MiB in all
_TAKEN_LAST = np.iinfo(np.int64).max


class Task:
    """One task of a need, as numbers."""

    __slots__ = ("count", "each", "flat", "kind", "need")

    def __init__(self, need: Need, kind: int) -> None:
        self.need, self.kind = need, kind
        self.flat: Ints = np.array([[1], [need.cpu_milli], [need.ram_mib]], np.int64)
        self.each = min(need.milli, WHOLE)  # of each device
        self.count = -(-need.milli // WHOLE)  # devices


@dataclass(frozen=True, slots=True)
class Stock:
    """Free amounts by row."""

    flat: Ints  # (slots, milli-CPU, MiB of RAM) x rows
    devices: Ints  # (milli, MiB, kind, full MiB) x rows x devices, in the order of their ids

    @classmethod
    def empty(cls, rows: int, devices: int) -> Stock:
        """Return the stock of ``rows`` nodes that have nothing."""
        return cls(np.zeros((3, rows), np.int64), np.zeros((4, rows, devices), np.int64))

    def grown(self, rows: int, devices: int) -> Stock:
        """Return a copy with room for more rows and devices, which are empty."""
        return Stock(grown(self.flat, (3, rows)), grown(self.devices, (4, rows, devices)))

    def at(self, rows: Ints) -> Stock:
        """Return a copy of some rows."""
        return Stock(self.flat.take(rows, axis=1), self.devices.take(rows, axis=1))

    def set_row(self, row: int, node: Node, kinds: dict[str, int]) -> None:
        """Make ``row`` what ``node`` has when nothing runs there."""
        self.flat[:, row] = node.slots, node.cpu_milli, node.ram_mib
        self.devices[:, row] = 0
        for column, device in enumerate(sorted(node.devices, key=lambda d: d.id)):
            kind = kinds.setdefault(device.kind, len(kinds) + 1)
            self.devices[:, row, column] = device.milli, device.mib, kind, device.mib

    def change(self, row: int, need: Need, slices: tuple[Slice, ...], columns: dict[str, int], sign: int) -> None:
        """Take one task's amounts from a row (``sign`` -1) or give them back (+1)."""
        self.flat[0, row] += sign
        self.flat[1, row] += sign * need.cpu_milli
        self.flat[2, row] += sign * need.ram_mib
        for piece in slices:
            column = columns.get(piece.device)
            if column is not None:  # else the device went away under the lease
                self.devices[MILLI, row, column] += sign * piece.milli
                self.devices[MIB, row, column] += sign * piece.mib

    def take(self, rows: Ints, task: Task, columns: Ints, mib: Ints) -> None:
        """Take one task from each of ``rows``, its devices as ``choose`` chose them."""
        self.flat[:, rows] -= task.flat
        if task.count:
            cells = rows[:, None] * self.devices.shape[2] + columns
            self.devices[MILLI].reshape(-1, copy=False)[cells] -= task.each
            self.devices[MIB].reshape(-1, copy=False)[cells] -= mib

    def fits(self, task: Task) -> Bools:
        """Return which rows have room for one task."""
        ok = np.asarray((self.flat >= task.flat).all(axis=0))
        if task.count:
            ok &= self._usable(task)[0].sum(axis=1) >= task.count
        return ok

    def choose(self, task: Task) -> tuple[Ints, Ints]:
        """Return, for rows that have room, the columns of the devices to take and the MiB to take of each."""
        if not task.count:
            none = np.zeros((self.flat.shape[1], 0), np.int64)
            return none, none
        usable, wanted = self._usable(task)
        left = np.where(usable, (self.devices[MILLI] << 42) + self.devices[MIB], _TAKEN_LAST)
        if task.count == 1:
            columns = left.argmin(axis=1)[:, None]
        else:
            columns = np.argsort(left, axis=1, kind="stable")[:, : task.count]
        return columns, wanted.take(np.arange(0, left.size, left.shape[1])[:, None] + columns)

    def cap(self, rows: Ints, other_rows: Ints, other: Stock) -> None:
        """Lower the rows that ``other`` has too to the least of both; the two lists say which rows these are."""
        mine = np.flatnonzero(np.isin(rows, other_rows))
        if mine.size:
            place = {row: i for i, row in enumerate(other_rows.tolist())}
            lower = least(self.at(mine), other.at(np.array([place[row] for row in rows[mine].tolist()])))
            self.flat[:, mine], self.devices[:, mine] = lower.flat, lower.devices

    def _usable(self, task: Task) -> tuple[Bools, Ints]:
        """Return which devices may serve the task, and how many MiB each of them would give."""
        milli, mib, kind, full = self.devices
        if task.each == WHOLE:
            wanted = full
            usable = (kind == task.kind) & (milli >= WHOLE) & (mib >= full)
            return (usable & (full >= task.need.mib) if task.need.mib else usable), wanted
        wanted = np.full_like(full, task.need.mib) if task.need.mib else full * task.each // WHOLE
        return (kind == task.kind) & (milli >= task.each) & (mib >= wanted), wanted


def grown(array: NDArray[Number], shape: tuple[int, ...]) -> NDArray[Number]:
    """Return a copy of ``array`` in the corner of a larger array of zeros."""
    larger = np.zeros(shape, array.dtype)
    larger[tuple(slice(0, size) for size in array.shape)] = array
    return larger


def least(one: Stock, other: Stock) -> Stock:
    """Return what is free in both: whatever fits there fits in either, with the same slices."""
    return Stock(np.minimum(one.flat, other.flat), np.minimum(one.devices, other.devices))
