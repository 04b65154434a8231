"""How much service each tenant had here, from the node's own log of leases.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from client_node.guard.leases import WHOLE, Lease

HELD = ""  # outcome of a lease that is held now
DONE = "done"
INTERRUPTED = "interrupted"  # the agent ended without a word; the lease's end is the last time it was seen held


@dataclass(frozen=True)
class LeaseEntry:
    """One lease as it stands in the node's log."""

    lease: Lease
    start: float  # UTC seconds
    seen: float  # UTC seconds: its end, or when it was last known to be held
    held_s: float  # by the monotonic clock
    outcome: str  # DONE, or the reason of its end; HELD, INTERRUPTED
    enforcement: tuple[str, ...]
    peak_mib: int  # most device memory seen in use; 0 = not measured


@dataclass(frozen=True)
class Service:
    """What one tenant had."""

    tenant: str
    leases: int
    held_s: float
    gpu_s: float  # seconds x devices: half a device for 10 s is 5
    cpu_s: float  # seconds x CPUs


def service(entries: Iterable[LeaseEntry], since: float = 0.0) -> tuple[Service, ...]:
    """Return each tenant's service after ``since``, by tenant; of a lease that began earlier, the part after it."""
    sums: dict[str, list[float]] = {}
    for one in entries:
        part = max(0.0, min(one.held_s, one.seen - since))
        total = sums.setdefault(one.lease.tenant, [0, 0.0, 0.0, 0.0])
        for index, amount in enumerate((1, part, part * one.lease.milli / WHOLE, part * one.lease.cpu_milli / 1000)):
            total[index] += amount
    return tuple(Service(tenant, int(count), *rest) for tenant, (count, *rest) in sorted(sums.items()))
