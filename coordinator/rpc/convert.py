"""What a node said, as records, within limits.  A node is not trusted: lengths and counts are checked here."""

from __future__ import annotations

import re

from common.errors import BadInput
from common.ids import Digest, FederationId, JobId, TaskId, digest
from common.wire import hansa_node_pb2 as pb
from coordinator.domain.nodes import DatasetOffer, NodeReport

MAX_TEXT = 1024  # characters of a name or message
MAX_DATASETS, MAX_COLUMNS, MAX_APPROVALS, MAX_ENVIRONMENTS = 1000, 5000, 10_000, 100
MAX_HELD, MAX_DENIALS = 10_000, 100
_TASK = re.compile(r"job_[0-9a-z]{1,32}/[0-9]{1,12}/[0-9]{1,9}")


def report_of(report: pb.NodeReport, *, release: str, skew_s: float) -> NodeReport:
    """Return the record of ``report``.

    Raises:
        BadInput: more than a node can have.
    """
    _few(report.datasets, MAX_DATASETS, "datasets")
    _few(report.approvals, MAX_APPROVALS, "approvals")
    _few(report.environments, MAX_ENVIRONMENTS, "environments")
    return NodeReport(
        datasets=tuple(_dataset(offer) for offer in report.datasets),
        approvals=tuple((FederationId(text(a.federation)), text(a.app_digest)) for a in report.approvals),
        environments=tuple(text(name) for name in report.environments) or ("default",),
        slots=min(report.slots, 10_000),
        cpus=min(report.cpus, 100_000),
        memory_mib=min(report.memory_mib, 2**40),
        sandbox=text(report.sandbox),
        serving=text(report.serving),
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


def _few(items: object, limit: int, what: str) -> None:
    count = len(items)  # type: ignore[arg-type]  # protobuf's repeated fields share no exported type
    if count > limit:
        raise BadInput(f"{count} {what} are over the limit of {limit}")
