"""Nodes and what they report."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from common.ids import FederationId, NodeId, TenantId


class NodeStatus(StrEnum):
    """Standing of a node; only an active one is served."""

    ACTIVE = "active"
    REVOKED = "revoked"
    QUARANTINED = "quarantined"  # a stale certificate generation was presented: two copies of one node


@dataclass(frozen=True)
class Node:
    """One machine of a tenant that runs the agent."""

    id: NodeId
    tenant: TenantId
    name: str  # unique inside the tenant
    status: NodeStatus
    generation: int  # of the newest certificate
    key_sha256: str  # public key of the newest certificate
    certificate_until: float
    created_at: float
    seen_at: float | None = None
    report: NodeReport | None = None


@dataclass(frozen=True)
class DatasetOffer:
    """A dataset that a node shares into a federation; the rows stay there."""

    federation: FederationId
    name: str
    format: str
    rows: int
    digest: str
    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Device:
    """An accelerator that a node lends, or one MIG instance of it."""

    uuid: str
    kind: str  # "cuda" | "rocm" | "tpu"
    name: str
    memory_mib: int  # that can be lent; 0 = not known
    parent: str = ""  # of a MIG instance: the UUID of its GPU
    profile: str = ""  # of a MIG instance: "1g.10gb"
    used_mib: int | None = None  # when it last reported; None = not measured
    busy_percent: int | None = None  # share of time in which any kernel ran; None = not measured


@dataclass(frozen=True)
class NodeReport:
    """What a node last said of itself."""

    datasets: tuple[DatasetOffer, ...] = ()
    approvals: tuple[tuple[FederationId, str], ...] = ()  # (federation, app digest or "*")
    environments: tuple[str, ...] = ("default",)
    slots: int = 1
    cpus: int = 1
    memory_mib: int = 0
    sandbox: str = ""
    serving: str = ""
    devices: tuple[Device, ...] = ()  # none = a CPU-only node
    labels: tuple[str, ...] = ()  # its operator's words
    enforcement: tuple[str, ...] = ()  # what holds a lease to its slice there
    release: str = ""
    skew_s: float = 0.0
    extra: dict[str, str] = field(default_factory=dict)
