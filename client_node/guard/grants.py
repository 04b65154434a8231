"""What an app's process is given of a lease: the devices it is told of, the files it may open, torch's share.

All of it is fixed when the process starts, so a warm process may serve a later lease only if that gives it the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from client_node.guard.leases import Device, Lease, Slice, bounds

# By kind, the variable in which a process is told of its devices. Without a grant they are empty: nothing is visible.
VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "ROCR_VISIBLE_DEVICES", "tpu": "TPU_VISIBLE_CHIPS"}


@dataclass(frozen=True)
class Grant:
    """What one process is given.  The empty value is a process without accelerators.

    Attributes:
        slices: What it may use.
        environment: Variables that its libraries read.
        files: Device files.
        views: Files and folders that its libraries read.
        bounds: Torch's share of each slice in MiB, in the order in which the process sees them; 0 = no bound.
    """

    slices: tuple[Slice, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    bounds: tuple[int, ...] = ()


def grant(lease: Lease, devices: Mapping[str, Device], context_mib: int) -> Grant:
    """Return what ``lease`` gives to its process; the lease has been judged."""
    found = [devices[part.device] for part in lease.slices]
    if not found:
        return Grant()
    kind = found[0].kind
    # By bus and not "fastest first": then other tools' numbers are these, too. UUIDs say which, whatever the order.
    environment = {VISIBLE[kind]: ",".join(device.handle for device in found), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    libraries = [device.libraries for device in found if device.libraries]
    if libraries:
        environment["LD_LIBRARY_PATH"] = libraries[0]
    return Grant(
        slices=lease.slices,
        environment=tuple(environment.items()),
        files=_once(path for device in found for path in device.files),
        views=_once([*(path for device in found for path in device.views), *libraries]),
        bounds=bounds(lease, devices, context_mib) if kind == "cuda" else (),
    )


def _once(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))
