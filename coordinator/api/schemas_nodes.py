"""The shapes of nodes: what they share, lend and allow."""

from __future__ import annotations

from typing import Literal

from coordinator.api.schemas import Out


class ColumnOut(Out):
    """One column of a dataset."""

    name: str
    type: str


class DatasetOut(Out):
    """A dataset a node shares into a federation; its rows stay at the node."""

    federation: str
    name: str
    format: str
    rows: int
    digest: str
    columns: list[ColumnOut]


class ApprovalOut(Out):
    """An app the node's steward approved in a federation; ``app_digest`` "*" = any app."""

    federation: str
    app_digest: str


class DeviceOut(Out):
    """An accelerator that a node lends; ``used_mib`` and ``busy_percent`` as it last said, null where it cannot."""

    uuid: str
    kind: str
    name: str
    memory_mib: int
    parent: str
    profile: str
    used_mib: int | None
    busy_percent: int | None


class NodeOut(Out):
    """One machine of a tenant.  ``state`` is a sentence for people, ``status`` and ``online`` are for programs."""

    id: str
    tenant: str
    name: str
    status: Literal["active", "revoked", "quarantined"]
    online: bool
    state: str  # "online", "offline since 2026-01-01T00:00:00.000Z", "never connected", "revoked", "quarantined: …"
    created_at: str
    seen_at: str | None
    certificate_until: str
    generation: int
    datasets: list[DatasetOut]
    approvals: list[ApprovalOut]
    environments: list[str]
    slots: int
    cpus: int
    memory_mib: int
    sandbox: str
    serving: str
    devices: list[DeviceOut]
    labels: list[str]
    enforcement: list[str]  # what holds a lease to its slice there
    release: str
    skew_s: float
