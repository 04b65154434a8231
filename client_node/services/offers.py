"""What the coordinator sends, checked before a byte of it names a file here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from client_node.guard.consent import JobRequest
from client_node.ports.state import Position
from common.errors import BadInput
from common.ids import digest, slug
from common.jobspec import JobSpec
from common.wire import hansa_node_pb2 as pb

_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class PreparedJob:
    """A job as this node knows it: what was asked, and how it is to be run."""

    request: JobRequest
    spec: JobSpec
    prepare: pb.Prepare


def job_id(text: str) -> str:
    """Return ``text`` if it may name a folder.

    Raises:
        BadInput: it may not.
    """
    if not _JOB.fullmatch(text):
        raise BadInput(f"{text[:80]!r} is no job id")
    return text


def read_prepare(prepare: pb.Prepare) -> PreparedJob:
    """Return the job that ``prepare`` describes.

    Raises:
        BadInput: an id, a digest or the spec is malformed.
    """
    try:
        spec = JobSpec.from_json(prepare.spec)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"the spec of job {prepare.job[:64]!r} cannot be read: {error}") from error
    digest(prepare.bundle.digest, what="bundle digest")
    request = JobRequest(
        job=job_id(prepare.job),
        federation=slug(prepare.federation, what="federation"),
        owner_tenant=prepare.owner_tenant,
        submitted_by=prepare.submitted_by,
        app_digest=digest(prepare.app_digest, what="app digest"),
        app_name=prepare.app_name,
        individual=prepare.individual,
        mode=spec.privacy.mode if spec.privacy.mode in {"plain", "mask"} else "",
        datasets=spec.datasets,
        environment=spec.environment,
        cpus=spec.resources.cpus,
        memory_mib=spec.resources.memory_mib,
        gpu_milli=spec.resources.gpu_milli,
        gpu_kind=spec.resources.gpu_kind,
        gpu_memory_mib=spec.resources.gpu_memory_mib,
    )
    return PreparedJob(request, spec, prepare)


def read_offer(offer: pb.TaskOffer) -> Position:
    """Return the place of a task in its job.

    Raises:
        BadInput: its ids do not fit together, or it has no lease.
    """
    if offer.task != f"{job_id(offer.job)}/{offer.seq}/{offer.slot}" or offer.seq >= 1 << 62:
        raise BadInput(f"task {offer.task[:120]!r} is not a message of job {offer.job[:64]!r}")
    digest(offer.content.digest, what="instruction digest")
    if offer.HasField("base"):
        digest(offer.base.digest, what="digest of what the instruction rests on")
    if not 0 < offer.lease_s < 1e9:
        raise BadInput(f"task {offer.task} came with a lease of {offer.lease_s} s")
    return Position(offer.seq, offer.slot)
