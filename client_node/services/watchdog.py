"""Ends a lease's processes when they use more of a device's memory than their slice.

Nothing between an app and the driver bounds what it allocates; so it is measured from outside, and the reaction is as
fast as the looks are frequent.  One look above the slice warns, the next one ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from client_node.guard.leases import Slice, lease_use, over
from client_node.ports.devices import Driver
from client_node.services.leases import HeldLease, Leases

_log = structlog.get_logger()


class Watched(Protocol):
    """The processes of a lease: a ``common.sandbox.Child``."""

    def processes(self) -> list[int]: ...
    def stop(self, reason: str, message: str) -> None: ...


class Watchdog:
    """Watches the device memory of apps.

    Args:
        driver: Tells what is in use.
        leases: Tells who else is at a device.
        on_lost: Called when a device does not answer any more.
        poll_s: Seconds between looks, as set now.
        pause: Waits so many seconds.
    """

    def __init__(
        self,
        driver: Driver,
        leases: Leases,
        on_lost: Callable[[], None],
        poll_s: Callable[[], float],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._driver = driver
        self._leases = leases
        self._on_lost = on_lost
        self._poll_s = poll_s
        self._pause = pause

    async def before(self, slices: tuple[Slice, ...]) -> dict[str, int | None]:
        """Return what is in use at the devices of a lease before its process starts, in MiB."""
        return await asyncio.to_thread(self._in_use, slices) if slices else {}

    @asynccontextmanager
    async def over(self, child: Watched, held: HeldLease, before: Mapping[str, int | None]) -> AsyncIterator[None]:
        """Watch for the ``with``; a child above its slice is stopped with ``gpu_memory``."""
        if not held.lease.slices:
            yield
            return
        watch = asyncio.create_task(self._watch(child, held, before), name=f"watch {held.lease.task}")
        try:
            yield
        finally:
            watch.cancel()  # and not waited for: the caller may have come by something that must be closed

    async def _watch(self, child: Watched, held: HeldLease, before: Mapping[str, int | None]) -> None:
        warned = False
        measured = {uuid for uuid, device in held.devices.items() if device.measured}
        while measured:
            used = await asyncio.to_thread(self._used, child, held, before)
            if lost := sorted(measured - used.keys()):
                child.stop("gpu_lost", f"device {lost[0]} does not answer any more")
                self._on_lost()
                return
            held.saw(used)
            if found := over(held.lease.slices, used):
                part, now = found
                text = f"it used {now} MiB of {part.device}, its slice is {part.mib} MiB"
                if warned:
                    child.stop("gpu_memory", text)
                    return
                _log.warning("slice_passed", task=held.lease.task, tenant=held.lease.tenant, detail=text)
            warned = found is not None
            await self._pause(self._poll_s())

    def _used(self, child: Watched, held: HeldLease, before: Mapping[str, int | None]) -> dict[str, int | None]:
        """Return the MiB that the lease's processes use at each device that answers; None = nobody can tell."""
        pids = frozenset(child.processes())
        used = {}
        for uuid, device in held.devices.items():
            use = self._driver.use(uuid) if device.measured else None
            if use is not None:
                used[uuid] = lease_use(
                    use,
                    pids,
                    sees_pids=self._driver.sees_pids,
                    alone=self._leases.alone(held, uuid),
                    before_mib=before.get(uuid),
                )
        return used

    def _in_use(self, slices: tuple[Slice, ...]) -> dict[str, int | None]:
        uses = {part.device: self._driver.use(part.device) for part in slices}
        return {uuid: use.used_mib if use is not None else None for uuid, use in uses.items()}
