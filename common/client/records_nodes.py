"""What the coordinator answers of nodes, as types: see ``records``."""

from __future__ import annotations

from typing import TypedDict


class Dataset(TypedDict):
    """A dataset shared into a federation."""

    federation: str
    name: str
    format: str
    rows: int
    digest: str
    columns: list[dict[str, str]]


class Device(TypedDict):
    """An accelerator that a node lends, or one MIG instance of it."""

    uuid: str
    kind: str
    name: str
    memory_mib: int
    parent: str
    profile: str
    used_mib: int | None
    busy_percent: int | None


class Node(TypedDict):
    """One machine of a tenant, as the coordinator sees it."""

    id: str
    tenant: str
    name: str
    status: str
    online: bool
    state: str
    created_at: str
    seen_at: str | None
    certificate_until: str
    generation: int
    datasets: list[Dataset]
    approvals: list[dict[str, str]]
    environments: list[str]
    slots: int
    cpus: int
    memory_mib: int
    sandbox: str
    serving: str
    devices: list[Device]
    labels: list[str]
    enforcement: list[str]
    release: str
    skew_s: float
