"""What the REST face gives of the scheduler (see ``schemas`` for the rules)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordinator.api.schemas import In, Out

ASK_ID = r"^job_[0-9a-z]{1,32}/[0-9]{1,12}(?:/[0-9]{1,9})?(?:@node_[0-9a-z]{1,32}(?:@[0-9]{1,15})?)?$"


class HistoryQuery(In):
    """Which ask or lease."""

    id: Annotated[
        str, Field(pattern=ASK_ID, max_length=120, examples=["job_0123/7", "job_0123/7@node_9@1700000000000"])
    ]


class NeedOut(Out):
    """What one task takes at its node."""

    gpu_kind: str
    gpu_milli: int
    gpu_memory_mib: int
    cpus: float
    memory_mib: int


class PolicyOut(Out):
    """Who goes first, and what that promises."""

    name: str
    fair: bool
    k: float  # what remaining work weighs against waiting
    half_life_s: float | None  # after which a use counts half; null = never forgotten
    head_starts_s: dict[str, float | None]  # by class of priority; null = strictly first
    reservations: int
    promise: str
    starvation_bound: str


class AskOut(Out):
    """One round that wants nodes."""

    id: str
    job: str
    tenant: str
    minimum: int  # nodes, all or nothing
    maximum: int
    nodes: list[str] | None  # names of those it may use; null = any
    need: NeedOut
    priority: str
    expected_s: float
    longest_s: float
    left_s: float  # what is left of the job, as expected
    submitted_at: str


class WaitOut(AskOut):
    """An ask that waits."""

    code: str  # never | reserved | behind_reservation | no_capacity | limit | behind_own
    reason: str
    not_before: str | None
    forecast_start: str | None  # as expected; null = not within a week, as things stand
    latest_start: str | None  # the promise by contract, where nodes are kept for it; null = none


class LeaseOut(Out):
    """What one task holds at a node."""

    id: str
    ask: str
    job: str
    tenant: str
    node: str
    node_name: str
    site: str
    devices: list[str]
    gpu_milli: int
    borrowed: bool
    enforcement: list[str]  # what holds it to its slice now, in the node's words (docs/scheduling.md)
    started_at: str
    until: str


class IdleOut(Out):
    """A node on which nothing runs."""

    node: str
    name: str
    site: str
    reason: str


class QueueOut(Out):
    """The scheduler at one moment, as far as you may see it."""

    at: str
    policy: PolicyOut
    waiting: list[WaitOut]  # in the order in which they are expected to start
    leases: list[LeaseOut]
    idle: list[IdleOut]
    hidden: int  # asks that wait beside these and are not yours to see


class UseOut(Out):
    """What a tenant had used at a site when it was decided."""

    site: str
    tenant: str
    used: float  # price x seconds, decayed (docs/scheduling.md)
    weight: int


class OtherOut(Out):
    """An ask that waited beside it, and what became of it in the same pass."""

    ask: str
    tenant: str
    outcome: str


class ProofOut(Out):
    """A decision, made again from the journal as it stood before it."""

    row: int  # of the journal
    at: str
    holds: bool  # the same state gave the same decision
    waiting: int  # asks that waited then
    nodes: int  # that were there
    granted: list[LeaseOut]
    use: list[UseOut]
    others: list[OtherOut]


class HistoryRowOut(Out):
    """One thing that happened to an ask."""

    row: int
    at: str
    event: str
    words: str


class HistoryOut(Out):
    """Everything the scheduler knows of an ask."""

    ask: AskOut
    asked_at: str
    policy: PolicyOut
    wait: WaitOut | None  # null = it does not wait now
    leases: list[LeaseOut]  # held now
    rows: list[HistoryRowOut]
    proof: ProofOut | None  # null = nothing was granted, or it was too long ago
