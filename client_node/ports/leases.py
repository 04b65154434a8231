"""The node's own log of leases: who held what here, for how long, and how it ended.

It is written by the node alone, from its own clock, before a task runs: what the coordinator says of shares can be held
against it.  Guarantees of a ``LeaseLog``: those of a ``NodeState``, but a power cut may take the newest rows, up to the
last update that was kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from client_node.guard.leases import Lease
from client_node.guard.service import LeaseEntry


class LeaseLog(Protocol):
    """Keeps one row a lease."""

    def begin(self, key: str, lease: Lease, now: float, enforcement: tuple[str, ...]) -> None:
        """Write that a lease is held from ``now``, under a key of its own."""
        ...

    def still_held(self, held: Mapping[str, tuple[float, float]]) -> None:
        """Write of each of these keys that it is held at a time, and for how many seconds by then."""
        ...

    def end(self, key: str, entry: LeaseEntry) -> None:
        """Write how a lease ended."""
        ...

    def interrupt(self) -> int:
        """End what an earlier agent left as held, when it was last known to be; return how many."""
        ...

    def entries(self, since: float = 0.0) -> tuple[LeaseEntry, ...]:
        """Return the leases that were held at some time after ``since``, oldest first."""
        ...

    def forget(self, before: float) -> None:
        """Drop leases that ended before a time."""
        ...
