"""What a lease may hold here, whether it stays within its slice, and what holds it there.

The node keeps its own books: the coordinator grants slices, but a slice that this machine does not have, does not lend
or has already given is refused.  Pure: devices, leases and measurements in, denials and words out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from client_node.guard.consent import Denial
from common.jobspec import WHOLE_DEVICE

WHOLE = WHOLE_DEVICE  # thousandths


class Measure(StrEnum):
    """One thing that holds a lease to its slice.  What is not named is not in force."""

    VISIBLE = "visible"  # the app's libraries are told which devices to use; an app may ignore it
    FRACTION = "fraction"  # torch's allocator is bounded; memory beside it is not, and an app may undo it
    FILES = "files"  # only the granted devices' files are in the sandbox: the others cannot be opened
    WATCHDOG = "watchdog"  # memory is measured from outside; the app's processes are ended above the slice
    EXCLUSIVE = "exclusive"  # the device is whole this lease's until it ends
    MIG = "mig"  # a hardware partition


@dataclass(frozen=True)
class Device:
    """One accelerator of this machine, or one MIG instance of it.

    Attributes:
        uuid: How leases name it.
        kind: One of ``common.jobspec.ACCELERATORS``.
        name: The product's name.
        memory_mib: What can be lent; 0 = not known.
        parent: Of a MIG instance: the UUID of its GPU.
        profile: Of a MIG instance: as the driver calls it.
        handle: How the app's libraries name it (``CUDA_VISIBLE_DEVICES``).
        files: Device files that a process needs to use it.
        views: Files and folders that its libraries read.
        libraries: Folder of its driver's libraries, where the loader does not look by itself; "" = it does.
        measured: Whether its memory in use can be asked for.
        attributed: Whether the processes that use it can be asked for.
    """

    uuid: str
    kind: str
    name: str
    memory_mib: int
    parent: str = ""
    profile: str = ""
    handle: str = ""
    files: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    libraries: str = ""
    measured: bool = False
    attributed: bool = False


@dataclass(frozen=True)
class Use:
    """What is going on at a device now; None = the driver cannot say."""

    used_mib: int | None = None
    busy_percent: int | None = None
    processes: Mapping[int, int | None] | None = None  # pid -> MiB


@dataclass(frozen=True)
class Slice:
    """A part of one device."""

    device: str
    milli: int
    mib: int  # 0 = not known, as of a device whose memory is not


@dataclass(frozen=True)
class Lease:
    """What one task may use here, until its time is over."""

    id: str
    task: str
    job: str
    tenant: str
    slices: tuple[Slice, ...] = ()
    cpu_milli: int = 0
    ram_mib: int = 0

    @property
    def milli(self) -> int:
        """Return thousandths of devices, over all of them."""
        return sum(part.milli for part in self.slices)


def filled(part: Slice, devices: Mapping[str, Device]) -> Slice:
    """Return ``part`` with the memory that goes with its share of the device, if it names none."""
    device = devices.get(part.device)
    if part.mib or device is None:
        return part
    return Slice(part.device, part.milli, device.memory_mib * min(part.milli, WHOLE) // WHOLE)


def judge_slices(
    slices: tuple[Slice, ...], devices: Mapping[str, Device], held: Iterable[Slice], context_mib: int
) -> tuple[Denial, ...]:
    """Return every reason why the slices cannot be given.

    Args:
        slices: What a lease names, filled.
        devices: What this node lends, by UUID.
        held: The slices of the leases that are held now.
        context_mib: What a CUDA context takes before an app has allocated anything.
    """
    if len({part.device for part in slices}) < len(slices):
        return (Denial("bad_lease", "The lease names a device twice."),)
    taken = list(held)
    denials = [reason for part in slices for reason in _about_slice(part, devices.get(part.device), taken, context_mib)]
    found = [devices[part.device] for part in slices if part.device in devices]
    if len({device.kind for device in found}) > 1:
        denials.append(Denial("bad_lease", "The lease names devices of several kinds."))
    if len(slices) > 1 and any(device.parent for device in found):
        denials.append(Denial("bad_lease", "A process can use one MIG instance; the lease names more devices."))
    if len(slices) > 1 and any(part.milli != WHOLE for part in slices):
        denials.append(Denial("bad_lease", "More than one device must be given whole."))
    return tuple(denials)


def over(slices: tuple[Slice, ...], used: Mapping[str, int | None]) -> tuple[Slice, int] | None:
    """Return the first slice that is passed, and the MiB in use there; None if all are kept to, as far as is known."""
    for part in slices:
        now = used.get(part.device)
        if part.mib and now is not None and now > part.mib:
            return part, now
    return None


def lease_use(use: Use, pids: frozenset[int], *, sees_pids: bool, alone: bool, before_mib: int | None) -> int | None:
    """Return the MiB of a device that a lease's processes use; None if nobody can tell.

    The driver names processes by the host's ids, so from inside a container they say nothing; and it may know a
    process but not its memory.  What a device has in use beyond ``before_mib`` is then the lease's, if it is alone
    there: what others on this machine do with the device counts against it too.

    Args:
        use: The device's figures.
        pids: The lease's processes.
        sees_pids: Whether the driver's process ids are this process's too.
        alone: Whether no other lease holds a part of the device.
        before_mib: In use when the lease's process was started; None = not known.
    """
    if sees_pids and use.processes is not None:
        mine = [mib for pid, mib in use.processes.items() if pid in pids]
        known = [mib for mib in mine if mib is not None]
        if len(known) == len(mine):
            return sum(known)
    if not alone or use.used_mib is None or before_mib is None:
        return None
    return max(0, use.used_mib - before_mib)


def measures(
    lease: Lease, devices: Mapping[str, Device], *, boxed: bool, sees_pids: bool, fraction: bool
) -> tuple[Measure, ...]:
    """Return what holds ``lease`` to its slice, strongest last.

    Args:
        lease: The lease.
        devices: The node's devices, by UUID.
        boxed: Whether the app runs in the sandbox.
        sees_pids: Whether the driver's process ids are this process's too.
        fraction: Whether the app's process said that torch's allocator is bounded.
    """
    found = [devices[part.device] for part in lease.slices if part.device in devices]
    whole = bool(lease.slices) and all(part.milli == WHOLE for part in lease.slices)
    told_apart = sees_pids and all(device.attributed for device in found)
    watched = bool(found) and all(device.measured for device in found) and all(part.mib for part in lease.slices)
    named = {
        Measure.VISIBLE: True,
        Measure.FRACTION: fraction and bool(lease.slices),
        Measure.FILES: boxed,
        Measure.WATCHDOG: watched and (told_apart or whole),
        Measure.EXCLUSIVE: whole,
        Measure.MIG: bool(found) and all(device.parent for device in found),
    }
    return tuple(measure for measure, holds in named.items() if holds)


def on_offer(devices: Iterable[Device], *, boxed: bool) -> tuple[Measure, ...]:
    """Return what can hold leases to their slices at a node that lends ``devices``; each lease says what does."""
    lent = list(devices)
    named = {
        Measure.VISIBLE: True,
        Measure.FRACTION: any(device.kind == "cuda" for device in lent),
        Measure.FILES: boxed,
        Measure.WATCHDOG: any(device.measured for device in lent),
        Measure.EXCLUSIVE: bool(lent),
        Measure.MIG: any(device.parent for device in lent),
    }
    return tuple(measure for measure, holds in named.items() if holds)


def bounds(lease: Lease, devices: Mapping[str, Device], context_mib: int) -> tuple[int, ...]:
    """Return torch's share of each slice in MiB, in the lease's order: without the context; 0 = the device is whole."""
    return tuple(
        part.mib - context_mib if 0 < part.mib < devices[part.device].memory_mib else 0 for part in lease.slices
    )


def _about_slice(part: Slice, device: Device | None, held: list[Slice], context_mib: int) -> list[Denial]:
    if device is None:
        return [Denial("no_device", f"This node lends no device {part.device!r}.", "hansa node devices")]
    if not 0 < part.milli <= WHOLE:
        return [Denial("bad_lease", f"{part.milli} thousandths are no part of one device.")]
    here = [other for other in held if other.device == part.device]
    milli, mib = sum(other.milli for other in here), sum(other.mib for other in here)
    denials = []
    if milli + part.milli > WHOLE or (device.memory_mib and mib + part.mib > device.memory_mib):
        free = f"{WHOLE - milli} thousandths and {max(0, device.memory_mib - mib)} MiB of {device.name} are free"
        denials.append(Denial("device_full", f"The lease wants {part.milli} and {part.mib} MiB; {free}."))
    if part.mib and part.mib < device.memory_mib and part.mib <= context_mib:
        text = f"A slice of {part.mib} MiB holds nothing beside the CUDA context ({context_mib} MiB)."
        denials.append(Denial("slice_too_small", text, "hansa node policy set gpu_context_mib MIB"))
    return denials
