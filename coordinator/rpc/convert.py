"""What a node said, as records, within limits.  A node is not trusted: lengths and counts are checked here."""

from __future__ import annotations

import re
from collections.abc import Iterable

from common.errors import BadInput
from common.ids import Digest, FederationId, JobId, TaskId, digest
from common.wire import hansa_node_pb2 as pb
from coordinator.domain.nodes import DatasetOffer, Device, NodeReport

MAX_TEXT = 1024  # characters of a name or message
MAX_UUID = 128
MAX_DATASETS, MAX_COLUMNS, MAX_APPROVALS, MAX_ENVIRONMENTS = 1000, 5000, 10_000, 100
MAX_DEVICES, MAX_LABELS, MAX_MEASURES = 256, 100, 20
MAX_HELD, MAX_DENIALS = 10_000, 100
_KIND = re.compile(r"[a-z][a-z0-9]{0,15}")
_TASK = re.compile(r"job_[0-9a-z]{1,32}/[0-9]{1,12}/[0-9]{1,9}")


def report_of(report: pb.NodeReport, *, release: str, skew_s: float) -> NodeReport:
    """Return the record of ``report``.

    Raises:
        BadInput: more than a node can have.
    """
    _few(report.datasets, MAX_DATASETS, "datasets")
    _few(report.approvals, MAX_APPROVALS, "approvals")
    _few(report.environments, MAX_ENVIRONMENTS, "environments")
    _few(report.devices, MAX_DEVICES, "devices")
    _few(report.labels, MAX_LABELS, "labels")
    return NodeReport(
        datasets=tuple(_dataset(offer) for offer in report.datasets),
        approvals=tuple((FederationId(text(a.federation)), text(a.app_digest)) for a in report.approvals),
        environments=tuple(text(name) for name in report.environments) or ("default",),
        slots=min(report.slots, 10_000),
        cpus=min(report.cpus, 100_000),
        memory_mib=min(report.memory_mib, 2**40),
        sandbox=text(report.sandbox),
        serving=text(report.serving),
        devices=_devices(report),
        labels=tuple(sorted({text(label) for label in report.labels})),
        enforcement=measures_of(report.enforcement),
        release=text(release),
        skew_s=skew_s,
    )


def held_of(hello: pb.Hello) -> dict[TaskId, tuple[Digest, int, Digest]]:
    """Return the updates a node keeps: task to (digest, size, digest of the instruction).

    Raises:
        BadInput: an entry is malformed, or there are too many.
    """
    _few(hello.held, MAX_HELD, "held updates")
    return {task_of(h.task): (digest(h.digest), h.size, digest(h.content, what="content")) for h in hello.held}


def denials_of(prepared: pb.Prepared) -> tuple[tuple[str, str], ...]:
    """Return why a node will not run a job: (code, message)."""
    return tuple((text(d.code), text(d.message)) for d in prepared.denials[:MAX_DENIALS])


def measures_of(words: Iterable[str]) -> tuple[str, ...]:
    """Return what a node says holds a lease to its slice: ``NodeReport.enforcement``, ``TaskStatus.enforcement``."""
    return tuple(text(word) for word in words)[:MAX_MEASURES]


def task_of(value: str) -> TaskId:
    """Return ``value`` if it has the form of a task id.

    Raises:
        BadInput: it has not.
    """
    if not _TASK.fullmatch(value):
        raise BadInput(f"{value[:80]!r} is no task id")
    return TaskId(value)


def job_of(value: str) -> JobId:
    """Return ``value``, cut to what an id can be."""
    return JobId(value[:64])


def text(value: str) -> str:
    """Return ``value``, cut to a sane length and without control characters."""
    return "".join(c if c.isprintable() else " " for c in value[:MAX_TEXT])


def _dataset(offer: pb.DatasetOffer) -> DatasetOffer:
    _few(offer.columns, MAX_COLUMNS, "columns")
    return DatasetOffer(
        federation=FederationId(text(offer.federation)),
        name=text(offer.name),
        format=text(offer.format),
        rows=min(offer.rows, 2**53),
        digest=text(offer.digest),
        columns=tuple((text(c.name), text(c.type)) for c in offer.columns),
    )


def _devices(report: pb.NodeReport) -> tuple[Device, ...]:
    """Return the devices by UUID, which must be there once each: leases name them by it."""
    devices = {device.uuid: _device(device) for device in report.devices}
    if len(devices) < len(report.devices) or "" in devices:
        raise BadInput("each device must have a UUID of its own")
    return tuple(devices[uuid] for uuid in sorted(devices))


def _device(device: pb.Device) -> Device:
    if not _KIND.fullmatch(device.kind):
        raise BadInput(f"{device.kind[:40]!r} is no kind of device")
    if not device.uuid.isprintable() or len(device.uuid) > MAX_UUID:
        raise BadInput(f"{device.uuid[:40]!r} cannot be a device's UUID")
    return Device(
        uuid=device.uuid,
        kind=device.kind,
        name=text(device.name),
        memory_mib=min(device.memory_mib, 2**40),
        parent=text(device.parent),
        profile=text(device.profile),
        used_mib=min(device.used_mib, 2**40) if device.HasField("used_mib") else None,
        busy_percent=min(device.busy_percent, 100) if device.HasField("busy_percent") else None,
    )


def _few(items: object, limit: int, what: str) -> None:
    count = len(items)  # type: ignore[arg-type]  # protobuf's repeated fields share no exported type
    if count > limit:
        raise BadInput(f"{count} {what} are over the limit of {limit}")
