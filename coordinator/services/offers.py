"""The events that tell a node what to do for a job."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from common.ids import JobId, TaskId, task_id
from common.wire import hansa_node_pb2 as pb
from coordinator.domain.exchanges import Instruction
from coordinator.domain.jobs import Job, RosterEntry
from coordinator.domain.tenancy import Federation
from coordinator.scheduling.records import Lease
from coordinator.scheduling.replay import lease_id
from coordinator.services.objects import HeldObject


def prepare(job: Job, bundle_size: int) -> pb.CoordinatorEvent:
    """Return the question whether ``job`` may run at a node."""
    return pb.CoordinatorEvent(
        prepare=pb.Prepare(
            job=job.id,
            federation=job.federation,
            owner_tenant=job.tenant,
            submitted_by=job.submitted_by,
            app_digest=job.app,
            bundle=pb.ContentRef(digest=job.bundle, size=bundle_size),
            spec=job.spec.to_json(),
            app_name=job.spec.name,
            # Not known before the app has made its strategy: the node judges each task by its `fold`.
            individual=False,
        )
    )


def may_see_single_replies(job: Job, federation: Federation) -> bool:
    """Say whether the job's app may be given replies one by one."""
    return federation.individual_replies and job.spec.aggregation != "mean"


def task_offer(
    job: Job, seq: int, instruction: Instruction, entry: RosterEntry, *, fold: bool, lease: Lease, lease_s: float
) -> pb.CoordinatorEvent:
    """Return the offer of one task under ``lease``, of which ``lease_s`` seconds are left."""
    task = task_id(job.id, seq, instruction.slot)
    return pb.CoordinatorEvent(
        task=pb.TaskOffer(
            task=task,
            job=job.id,
            seq=seq,
            slot=instruction.slot,
            message_type=instruction.message_type,
            content=pb.ContentRef(digest=instruction.content, size=instruction.size),
            run_id=job.run_id,
            flower_node_id=entry.flower_node_id,
            partition_id=entry.partition_id,
            num_partitions=len(job.roster),
            group_id=instruction.group_id,
            message_id=task,
            lease_s=lease_s,
            seed=task_seed(job.seed, task),
            max_weight=job.spec.max_weight,
            fold=fold,
            ttl_s=instruction.ttl_s,
            lease=lease_id(lease),
            tenant=lease.tenant,
            slices=[pb.Slice(device=part.device, milli=part.milli, mib=part.mib) for part in lease.slices],
            cpu_milli=lease.need.cpu_milli,
            ram_mib=lease.need.ram_mib,
        )
    )


def rest(offer: pb.CoordinatorEvent, held: Sequence[HeldObject]) -> None:
    """Name in an offer what its instruction rests on."""
    base = next((one.base for one in held if one.digest == offer.task.content.digest), None)
    if base is not None:
        offer.task.base.CopyFrom(pb.ContentRef(digest=base.digest, size=base.size))


def task_seed(seed: int, task: TaskId) -> int:
    """Return the task's own seed: 31 bits (numpy takes 32), the same after every restart, without the job's id."""
    place = task.split("/", 1)[1]
    return int.from_bytes(hashlib.sha256(f"{seed}/{place}".encode()).digest()[:4], "big") >> 1


def task_cancel(task: TaskId, reason: str) -> pb.CoordinatorEvent:
    """Return the end of a task nobody waits for."""
    return pb.CoordinatorEvent(cancel=pb.TaskCancel(task=task, reason=reason))


def exchange_closed(job: JobId, seq: int) -> pb.CoordinatorEvent:
    """Return that the updates of an exchange need not be kept any longer."""
    return pb.CoordinatorEvent(closed=pb.ExchangeClosed(job=job, seq=seq))


def job_ended(job: Job) -> pb.CoordinatorEvent:
    """Return that a job is over."""
    return pb.CoordinatorEvent(ended=pb.JobEnded(job=job.id, state=str(job.state)))
