"""What the coordinator answers about quotas (see ``records``)."""

from __future__ import annotations

from typing import TypedDict


class Amount(TypedDict):
    """Resources of a site; what is null or absent is not named."""

    gpu_milli: dict[str, int]
    gpu_memory_mib: dict[str, int]
    cpu_milli: int | None
    ram_mib: int | None


class Grant(TypedDict):
    """What a site gives a tenant; ``held`` null = not known."""

    site: str
    tenant: str
    guarantee: Amount
    limit: Amount
    weight: int
    held: Amount | None
    set_by: str
    set_at: str
    etag: str
    warnings: list[str]


class AllowanceUsed(TypedDict):
    """What a tenant uses at the coordinator."""

    running_jobs: int
    queued_jobs: int
    stored_bytes: int


class Allowance(TypedDict):
    """What a tenant may use at the coordinator."""

    tenant: str
    running_jobs: int
    queued_jobs: int
    stored_bytes: int
    used: AllowanceUsed
    default: bool
    set_by: str
    set_at: str | None
    etag: str
