"""Versions, aliases and where they are deployed."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.ids import Digest, FederationId, JobId, NodeId, TenantId


@dataclass(frozen=True)
class ModelVersion:
    """One immutable version; the signed manifest is the truth, this row is its index."""

    tenant: TenantId
    model: str  # slug, unique inside the tenant
    version: int  # 1, 2, 3 …
    manifest: Digest
    manifest_size: int
    federation: FederationId | None
    job: JobId | None
    round: int
    created_at: float
    metrics: dict[str, float] = field(default_factory=dict)
    servable: bool = False


@dataclass(frozen=True)
class Alias:
    """A movable name, moved only by compare-and-swap on ``generation``."""

    tenant: TenantId
    model: str
    name: str
    version: int
    generation: int
    moved_by: str
    moved_at: float


@dataclass(frozen=True)
class Deployment:
    """What one node should serve, and what it last said."""

    tenant: TenantId
    model: str
    version: int
    node: NodeId
    wanted: bool
    state: str  # "pending" | "fetching" | "serving" | "failed" | "removed"
    message: str
    url: str
    updated_at: float
