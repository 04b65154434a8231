"""What a scheduling decision depends on, and what it says.

Amounts are integers (milli-GPU, MiB, milli-CPU), times are integers in milliseconds, ids are text: the same state gives
the same bytes on every machine, whatever order its parts come in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.ids import JobId, NodeId, TenantId
from coordinator.domain.quotas import Grant

WHOLE = 1000  # milli-GPU of one device


@dataclass(frozen=True, slots=True)
class Need:
    """What one task needs at one node.

    Up to 1000 milli-GPU come from one device; more must be whole devices (2000 = two of them).
    """

    kind: str = ""  # of the accelerator: "cuda", "rocm", "tpu"; "" = none
    milli: int = 0
    mib: int = 0  # memory of each device
    cpu_milli: int = 1000
    ram_mib: int = 0


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator of a node, or one MIG instance of it."""

    id: str  # UUID
    kind: str
    mib: int
    milli: int = WHOLE


@dataclass(frozen=True, slots=True)
class Node:
    """What a node has to lend while it is there."""

    id: NodeId
    site: TenantId  # who owns it
    cpu_milli: int
    ram_mib: int
    slots: int  # tasks at once
    devices: tuple[Device, ...] = ()
    labels: frozenset[str] = frozenset()
    speed: float = 1.0  # relative; only ever breaks ties


@dataclass(frozen=True, slots=True)
class Ask:
    """One round that wants at least ``m``, at most ``n`` nodes, all or nothing, for at most ``bound_ms``."""

    id: str
    job: JobId
    tenant: TenantId
    need: Need
    m: int
    n: int
    est_ms: int  # how long the round is expected to take: charged at grant
    bound_ms: int  # the longest it may take: the length of its leases
    submit_ms: int  # of the job, so that a later round is not pushed behind fresh jobs
    left_ms: int  # what is left of the job, capped by what it declared
    candidates: tuple[NodeId, ...] | None = None  # the roster's nodes this round may use, sorted; None = any node
    labels: frozenset[str] = frozenset()  # that a node must carry
    klass: str = "normal"  # of priority


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of one device."""

    device: str
    milli: int
    mib: int


@dataclass(frozen=True, slots=True)
class Lease:
    """What one task of an ask holds at one node, until a time that the coordinator itself enforces."""

    ask: str
    job: JobId
    tenant: TenantId
    node: NodeId
    site: TenantId
    need: Need
    slices: tuple[Slice, ...]
    start_ms: int
    until_ms: int
    est_ms: int  # charged at grant; settled with the true length at the end
    borrowed: bool = False  # was beyond the tenant's guarantee when it was granted


@dataclass(frozen=True, slots=True)
class Policy:
    """The three numbers of the key (and the half-life of what is remembered of use)."""

    name: str
    fair: bool = False
    k: float = 0.0
    head_start_ms: Mapping[str, float] = field(default_factory=dict)  # class -> ms; inf = strict
    half_life_ms: int | None = None  # None = nothing is ever forgotten
    reservations: int = 4  # gangs that may hold nodes back at one time; several together a third of what they can use


@dataclass(frozen=True, slots=True)
class State:
    """Everything a decision depends on besides the time."""

    policy: Policy
    nodes: tuple[Node, ...]  # that are there now
    asks: tuple[Ask, ...] = ()
    leases: tuple[Lease, ...] = ()
    grants: tuple[Grant, ...] = ()
    use: Mapping[tuple[TenantId, TenantId], float] = field(default_factory=dict)  # (site, tenant) -> price x ms
    origin_ms: int = 0  # when a use counts as it is; with a half-life, later use counts more (see usage)


@dataclass(frozen=True, slots=True)
class Start:
    """Grant: the round may be offered to these nodes."""

    ask: Ask
    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now: why, in words and as a code, and not before when (None = nobody can say).

    A decision holds only the waits that hold nodes back ("reserved"); ``explain.why`` gives one for every waiting ask.
    """

    ask: str
    code: str  # "never" | "reserved" | "behind_reservation" | "no_capacity" | "limit" | "behind_own"
    reason: str
    not_before_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Expire:
    """A lease has run out; what was done under it is over."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Revoke:
    """A borrowed lease is taken back early (only where the policy allows it)."""

    lease: Lease
    reason: str


Decision = Start | Wait | Expire | Revoke
