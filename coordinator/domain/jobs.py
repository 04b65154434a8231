"""A job's life: states, events, one table.

Rule: everything that decides which state follows which is in ``TRANSITIONS``; everything else calls ``advance``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from common.errors import IllegalTransition
from common.ids import AppDigest, Digest, FederationId, JobId, NodeId, TenantId
from common.jobspec import JobSpec


class JobState(StrEnum):
    """Where a job is."""

    QUEUED = "queued"  # admitted; its nodes are being asked
    WAITING = "waiting"  # too few nodes for the roster or the round; `note` says which
    RUNNING = "running"
    PUBLISHING = "publishing"  # the app is done, the version is being written
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobEvent(StrEnum):
    """What may happen to a job."""

    STARTED = "started"
    STALLED = "stalled"
    RESUMED = "resumed"
    APP_FINISHED = "app_finished"
    PUBLISHED = "published"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S, _E = JobState, JobEvent
TRANSITIONS: dict[tuple[JobState, JobEvent], JobState] = {
    (_S.QUEUED, _E.STARTED): _S.RUNNING,
    (_S.QUEUED, _E.STALLED): _S.WAITING,
    (_S.WAITING, _E.STARTED): _S.RUNNING,
    (_S.WAITING, _E.STALLED): _S.WAITING,
    (_S.WAITING, _E.RESUMED): _S.RUNNING,
    (_S.RUNNING, _E.STALLED): _S.WAITING,
    (_S.RUNNING, _E.APP_FINISHED): _S.PUBLISHING,
    (_S.PUBLISHING, _E.PUBLISHED): _S.SUCCEEDED,
    **{(s, _E.FAILED): _S.FAILED for s in (_S.QUEUED, _S.WAITING, _S.RUNNING, _S.PUBLISHING)},
    **{(s, _E.CANCELLED): _S.CANCELLED for s in (_S.QUEUED, _S.WAITING, _S.RUNNING, _S.PUBLISHING)},
}
FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
UNFINISHED = frozenset(JobState) - FINAL


def advance(state: JobState, event: JobEvent) -> JobState:
    """Return the state that follows.

    Raises:
        IllegalTransition: the table has no such row.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"a {state} job cannot be {event}") from None


@dataclass(frozen=True)
class RosterEntry:
    """A node's place in a job; fixed when the job starts."""

    node: NodeId
    tenant: TenantId
    name: str
    flower_node_id: int
    partition_id: int


@dataclass(frozen=True)
class Job:
    """One training run of an app."""

    id: JobId
    tenant: TenantId
    federation: FederationId
    submitted_by: str
    app: AppDigest
    bundle: Digest  # blob of the app's archive
    spec: JobSpec
    seed: int
    run_id: int  # Flower's run id, 63 bits
    state: JobState
    note: str  # one sentence for people: what is waited for, why it failed
    reason: str  # stable code when failed
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    roster: tuple[RosterEntry, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)  # last aggregated metrics
    round: int = 0
    rounds: int = 0  # planned, 0 = unknown


@dataclass(frozen=True)
class Submission:
    """What an idempotency key stands for."""

    job: JobId
    request: str | None  # digest of what was asked; None: made by a release that kept none


@dataclass(frozen=True)
class JobLogEntry:
    """One line of a job's event log: what people watch and auditors read."""

    job: JobId
    seq: int
    at: float
    event: str  # past tense, constant: "round_aggregated", "update_dropped", "job_waiting" …
    facts: dict[str, object]
