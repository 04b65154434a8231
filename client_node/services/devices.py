"""The accelerators of this node: what its driver finds and its operator declares, less what is not lent."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping

import structlog

from client_node.guard.leases import Device, Use
from client_node.ports.devices import Driver
from client_node.settings import NodeSettings
from common.wire import hansa_node_pb2 as pb

_log = structlog.get_logger()
SCAN_S = 30.0  # between looks at what is there
_FIGURES = 10  # looks between reports of figures: each is written down at the coordinator
_NEWS = 20  # of a hundred: figures are told anew when they moved by as much


class Devices:
    """What this node has and lends.  ``scan`` asks the driver; everything else answers from the last scan."""

    def __init__(self, driver: Driver, settings: Callable[[], NodeSettings]) -> None:
        self.driver = driver
        self._settings = settings
        self._found: tuple[Device, ...] = ()
        self._use: dict[str, Use] = {}
        self._told: dict[str, Use] = {}

    def scan(self) -> bool:
        """Look anew, which may take some milliseconds; say whether there are other devices than before."""
        found = self.driver.devices()
        lost = {device.uuid for device in self._found} - {device.uuid for device in found}
        if lost:
            _log.warning("devices_lost", devices=sorted(lost))
        news = found != self._found
        self._found = found
        self._use = {device.uuid: use for device in found if (use := self.driver.use(device.uuid)) is not None}
        return news

    def moved(self) -> bool:
        """Say whether what goes on at the devices is far from what was last reported."""
        lent = self.lent()
        return any(_moved(self._told.get(u), self._use.get(u), d.memory_mib) for u, d in lent.items())

    async def watch(self, on_news: Callable[[], None], pause: Callable[[float], Awaitable[None]]) -> None:
        """Look every now and then, for as long as this runs; figures are news less often than devices."""
        for look in itertools.count(1):
            await pause(SCAN_S)
            if await asyncio.to_thread(self.scan) or (look % _FIGURES == 0 and self.moved()):
                on_news()

    def all(self) -> tuple[Device, ...]:
        """Return every device that is known, whether lent or not."""
        declared = (
            Device(name, device.kind, device.name or name, device.memory_mib, handle=device.handle or name,
                   files=device.files)
            for name, device in sorted(self._settings().devices.items())
        )  # fmt: skip
        return (*self._found, *declared)

    def lent(self) -> Mapping[str, Device]:
        """Return what may be leased, by UUID."""
        withheld = self._settings().withheld_devices
        return {device.uuid: device for device in self.all() if not is_withheld(device, withheld)}

    def use(self, uuid: str) -> Use:
        """Return what went on at a device when it was last looked at."""
        return self._use.get(uuid, Use())

    def report(self) -> list[pb.Device]:
        """Return the devices for the coordinator, and note what it has been told."""
        lent = self.lent()
        self._told = {uuid: self.use(uuid) for uuid in lent}
        return [_wire(device, self.use(device.uuid)) for device in lent.values()]


def is_withheld(device: Device, withheld: tuple[str, ...]) -> bool:
    """Say whether the operator does not lend ``device``, or the GPU of which it is an instance."""
    names = [name for name in (device.uuid, device.parent) if name]
    return any(word == "all" or name.startswith(word) for word in withheld for name in names)


def _wire(device: Device, use: Use) -> pb.Device:
    return pb.Device(
        uuid=device.uuid,
        kind=device.kind,
        name=device.name,
        memory_mib=device.memory_mib,
        parent=device.parent,
        profile=device.profile,
        used_mib=use.used_mib,
        busy_percent=use.busy_percent,
    )


def _moved(told: Use | None, now: Use | None, memory_mib: int) -> bool:
    if told is None or now is None:
        return (told is None) != (now is None)
    memory = abs((now.used_mib or 0) - (told.used_mib or 0)) * 100 >= _NEWS * max(memory_mib, 1)
    return memory or abs((now.busy_percent or 0) - (told.busy_percent or 0)) >= _NEWS
