"""Which files a process needs to use one NVIDIA device: its own, those of all, and what CUDA's libraries read.

A process that can open ``/dev/nvidia3`` can use that GPU, whatever its environment says; so these lists are what keeps
a lease from the devices that it was not given.

Source:
    NVIDIA driver README, "NVIDIA device files"; MIG user guide, "Device nodes and capabilities".
"""

from __future__ import annotations

import re
from pathlib import Path

_COMMON = ("nvidiactl", "nvidia-uvm")
_MINOR = re.compile(r"DeviceFileMinor: (\d+)")
_LIBRARY = re.compile(r"(/\S*)/libnvidia-ml\.so\S*$", re.MULTILINE)
_STANDARD = re.compile(r"(/usr)?(/local)?/lib(32|64|x32)?(/[a-z0-9_]+-linux-gnu)?")  # where the loader looks anyway


class Files:
    """Device files and views of this machine.

    Args:
        root: Where ``dev``, ``proc`` and ``sys`` are.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    @property
    def complete(self) -> bool:
        """Say whether the files that every CUDA process needs are there."""
        return all((self._root / "dev" / name).exists() for name in _COMMON)

    def of(self, minor: int | None, instance: tuple[int, int] | None) -> tuple[str, ...]:
        """Return the device files of one device.

        Args:
            minor: Number of the GPU's own file; None = not known, then there are no files and no access.
            instance: Of a MIG instance: ids of its GPU instance and its compute instance.
        """
        if minor is None:
            return ()
        dev = self._root / "dev"
        files = [dev / f"nvidia{minor}", *(dev / name for name in _COMMON)]
        if instance is not None:
            gpu = self._root / "proc/driver/nvidia/capabilities" / f"gpu{minor}" / "mig" / f"gi{instance[0]}"
            numbers = (_capability(gpu / "access"), _capability(gpu / f"ci{instance[1]}" / "access"))
            files += [dev / "nvidia-caps" / f"nvidia-cap{number}" for number in numbers if number is not None]
        return tuple(str(path) for path in files)

    def views(self, bus: str) -> tuple[str, ...]:
        """Return what CUDA reads of the machine: CPU and memory topology, and the device's own place on the bus.

        Args:
            bus: NVML's name of the place, ``00000000:01:00.0``; the kernel's has a shorter domain.
        """
        found = [self._root / "sys/devices/system"]
        domain, _, place = bus.lower().partition(":")
        if place:
            found.append(self._root / "sys/bus/pci/devices" / f"{domain[-4:]}:{place}")
        return tuple(str(path) for path in found)

    def libraries(self) -> str:
        """Return the folder of the driver's libraries if the loader must be told of it; "" if it need not."""
        try:
            maps = (self._root / "proc/self/maps").read_text(errors="replace")
        except OSError:
            return ""
        found = _LIBRARY.search(maps)
        return "" if found is None or _STANDARD.fullmatch(found.group(1)) else found.group(1)


def _capability(access: Path) -> int | None:
    try:
        found = _MINOR.search(access.read_text())
    except OSError:
        return None
    return int(found.group(1)) if found else None
