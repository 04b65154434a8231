"""What is free on one node, down to the slices of its devices.

A need of up to 1000 milli-GPU comes from one device, the tightest that holds it; more than that is whole devices, and a
whole device brings all of its memory.  A part of a device whose need names no memory takes its share of the memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coordinator.scheduling.records import WHOLE, Lease, Need, Node, Slice

Part = tuple[int, int]  # milli, MiB


@dataclass(slots=True)
class Free:
    """What is free on a node: ``devices`` gives milli and MiB by device, negative where a device was lost under a lease."""

    slots: int
    cpu_milli: int
    ram_mib: int
    devices: dict[str, Part]

    def copy(self) -> Free:
        """Return a copy that can be changed alone."""
        return Free(self.slots, self.cpu_milli, self.ram_mib, dict(self.devices))

    def take(self, need: Need, slices: tuple[Slice, ...], sign: int = 1) -> None:
        """Take one task's amounts away (``sign`` -1: give them back)."""
        self.slots -= sign
        self.cpu_milli -= sign * need.cpu_milli
        self.ram_mib -= sign * need.ram_mib
        for piece in slices:
            if piece.device in self.devices:  # else the device went away under the lease
                milli, mib = self.devices[piece.device]
                self.devices[piece.device] = (milli - sign * piece.milli, mib - sign * piece.mib)

    def milli(self) -> int:
        """Return the free milli-GPU of all devices together."""
        return sum(milli for milli, _ in self.devices.values())


def whole(node: Node) -> Free:
    """Return what ``node`` has when nothing runs there."""
    return Free(node.slots, node.cpu_milli, node.ram_mib, {d.id: (d.milli, d.mib) for d in node.devices})


def after(node: Node, leases: Iterable[Lease]) -> Free:
    """Return what is left of ``node`` beside ``leases``."""
    free = whole(node)
    for lease in leases:
        free.take(lease.need, lease.slices)
    return free


def both(one: Free, other: Free) -> Free:
    """Return what is free in both: whatever fits there, fits in either with the same slices."""
    return Free(
        min(one.slots, other.slots),
        min(one.cpu_milli, other.cpu_milli),
        min(one.ram_mib, other.ram_mib),
        {
            d: (min(one.devices[d][0], other.devices[d][0]), min(one.devices[d][1], other.devices[d][1]))
            for d in one.devices
        },
    )


def place(node: Node, free: Free, need: Need) -> tuple[Slice, ...] | None:
    """Return the slices of one task of ``need``, or None if it does not fit in ``free``.

    Deterministic: the device with the least left over is taken, then the smallest id.
    """
    if free.slots < 1 or free.cpu_milli < need.cpu_milli or free.ram_mib < need.ram_mib:
        return None
    if not need.milli:
        return ()
    count, each = max(1, need.milli // WHOLE), min(need.milli, WHOLE)
    choices = []
    for device in node.devices:
        if device.kind != need.kind:
            continue
        milli, mib = free.devices[device.id]
        wanted = device.mib if each == WHOLE else need.mib or device.mib * each // WHOLE
        if milli >= each and mib >= wanted and wanted >= need.mib:
            choices.append((milli, mib, device.id, wanted))
    if len(choices) < count:
        return None
    choices.sort()
    return tuple(Slice(device, each, wanted) for _, _, device, wanted in choices[:count])
