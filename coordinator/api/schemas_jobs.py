"""What the REST face takes and gives for apps and jobs (see ``schemas`` for the rules)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordinator.api.schemas import DigestText, In, Out, RunConfig, Slug
from coordinator.domain.jobs import JobState


class AppOut(Out):
    """An app archive that was taken in."""

    app_digest: str
    name: str
    size: int


class PlanIn(In):
    """What would happen if this were submitted?"""

    federation: Slug
    app: DigestText
    tenant: Slug | None = None  # may be left out by a caller of one tenant
    run_config: RunConfig = Field(default_factory=dict)


class JobIn(PlanIn):
    """A job to run."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None


class DenialOut(Out):
    """One reason against, and what would mend it."""

    code: str
    message: str
    next_step: str = ""
    passing: bool = False  # may vanish by itself: a node comes back


class PlannedNodeOut(Out):
    """One node of the federation and all its denials; none = it can run the job."""

    id: str
    tenant: str
    name: str
    online: bool
    datasets: list[str]  # that it shares into the federation and the job would use
    denials: list[DenialOut]


class SiteShareOut(Out):
    """What a site's owner gives the tenant of the resource that the job needs most: GPUs of its kind, or cores."""

    site: str
    nodes: int  # that can run the job now
    resource: str  # "cuda", "rocm", "tpu" or "cpu"
    round: float  # what a round takes there, at most
    held: float  # by the tenant now
    guarantee: float | None  # null = none
    limit: float | None  # null = no limit
    weight: int


class OutlookOut(Out):
    """What the job would meet, by the scheduler's own decision beside what waits now."""

    nodes: int  # of a round, all or nothing
    start: str | None  # as expected; null = not within a week, or not while nodes are away
    latest_start: str | None  # the promise by contract, where nodes would be kept for it; null = none
    code: str  # why not at once; "" = at once
    reason: str
    round_s: float | None  # null = rounds like these were never seen here
    length_s: float | None  # null = that, or the app does not say how many rounds
    gpu_hours: float | None
    sites: list[SiteShareOut]


class PlanOut(Out):
    """Where a job could run, with every reason against, all at once."""

    placeable: bool
    app_name: str
    model: str
    rounds: int
    minimum: int  # nodes needed
    aggregation: str
    missing_imports: list[str]
    denials: list[DenialOut]  # of the job as a whole
    nodes: list[PlannedNodeOut]
    outlook: OutlookOut | None  # null where it can never be placed


class RosterOut(Out):
    """A node's place in a job."""

    node: str
    tenant: str
    name: str
    partition_id: int


class JobOut(Out):
    """One training run of an app."""

    id: str
    tenant: str
    federation: str
    submitted_by: str
    app: str  # digest
    app_name: str
    model: str
    run_config: dict[str, bool | int | float | str]
    seed: int
    state: JobState
    note: str  # what is waited for, or why it failed, in one sentence
    reason: str  # stable code when failed
    round: int
    rounds: int  # planned; 0 = the app does not say
    metrics: dict[str, float | None]  # null where the app reported a value that JSON cannot say (NaN, infinity)
    roster: list[RosterOut]
    created_at: str
    started_at: str | None
    ended_at: str | None


class JobWaitOut(Out):
    """A round of a job that waits for nodes."""

    ask: str
    code: str
    reason: str
    forecast_start: str | None  # as expected; null = not within a week, as things stand
    latest_start: str | None  # the promise by contract, where nodes are kept for it; null = none


class JobDetailOut(JobOut):
    """A job, and what its rounds wait for."""

    waits: list[JobWaitOut]


class JobEventOut(Out):
    """One line of a job's event log."""

    seq: int
    at: str
    event: str
    facts: dict[str, object]


class IncludedOut(Out):
    """One update that went into a fold, or one reply that the app got."""

    node: str
    name: str
    weight: float | None  # null where the app weighs the replies itself


class DroppedOut(Out):
    """One update that did not."""

    node: str
    name: str
    code: str
    message: str


class RoundOut(Out):
    """One exchange of messages between the app and its nodes."""

    seq: int
    round: int  # the app's server-round; 0 = it does not say
    kind: str
    message_type: str
    fold: bool
    asked: list[str]  # names of nodes
    included: list[IncludedOut]
    dropped: list[DroppedOut]
    opened_at: str
    closed_at: str | None


class RoundsOut(Out):
    """All exchanges of a job, in order."""

    items: list[RoundOut]
