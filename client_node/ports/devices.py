"""What drives the accelerators of this machine.

Guarantees of a ``Driver``: (1) a machine without accelerators or driver has no devices, and nothing is raised or logged
for it; (2) a device that is lost, or that cannot answer, is left out or answers None: no method raises for the
hardware's sake; (3) methods may be called from any thread and may take some milliseconds.
"""

from __future__ import annotations

from typing import Protocol

from client_node.guard.leases import Device, Use


class Driver(Protocol):
    """Reads devices, and what goes on at them."""

    @property
    def problem(self) -> str:
        """Say what is wrong with a driver that is installed; "" = nothing, or there is none."""
        ...

    @property
    def sees_pids(self) -> bool:
        """Say whether ``Use.processes`` has process ids as this process knows them."""
        ...

    def devices(self) -> tuple[Device, ...]:
        """Return the devices that are there now, by UUID."""
        ...

    def use(self, uuid: str) -> Use | None:
        """Return what goes on at a device; None = it is gone."""
        ...

    def ready(self, uuids: tuple[str, ...]) -> None:
        """Make the devices' files, where the driver makes them on demand only."""
        ...

    def close(self) -> None: ...
