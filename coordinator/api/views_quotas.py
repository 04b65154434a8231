"""Quotas as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from common.clock import iso
from common.ids import TenantId
from coordinator.api import schemas_quotas as s
from coordinator.domain.quotas import Allowance, Amount, Grant, Terms
from coordinator.services.allowances import Use
from coordinator.services.preconditions import tag_of


def terms(given: s.GrantIn) -> Terms:
    """Return what was sent as a record."""
    return Terms(_record(given.guarantee), _record(given.limit), given.weight)


def grant(record: Grant, held: Amount | None, warnings: Sequence[str]) -> s.GrantOut:
    """Return a grant."""
    return s.GrantOut(
        site=record.site,
        tenant=record.tenant,
        guarantee=amount(record.guarantee),
        limit=amount(record.limit),
        weight=record.weight,
        held=None if held is None else amount(held),
        set_by=record.set_by,
        set_at=iso(record.set_at),
        etag=etag(record),
        warnings=list(warnings),
    )


def allowance(use: Use, tenant: TenantId) -> s.AllowanceOut:
    """Return an allowance and what is used of it."""
    record = use.allowance
    return s.AllowanceOut(
        tenant=tenant,
        running_jobs=record.running_jobs,
        queued_jobs=record.queued_jobs,
        stored_bytes=record.stored_bytes,
        used=s.AllowanceUsedOut(
            running_jobs=use.running_jobs, queued_jobs=use.queued_jobs, stored_bytes=use.stored_bytes
        ),
        default=record.generation == 0,
        set_by=record.set_by,
        set_at=iso(record.set_at) if record.generation else None,
        etag=etag(record),
    )


def amount(record: Amount) -> s.AmountOut:
    """Return an amount."""
    return s.AmountOut(
        gpu_milli=dict(sorted(record.milli.items())),
        gpu_memory_mib=dict(sorted(record.mib.items())),
        cpu_milli=record.cpu_milli,
        ram_mib=record.ram_mib,
    )


def etag(record: Grant | Allowance) -> str:
    """Return the entity tag as it stands in the header."""
    return f'"{tag_of(record)}"'


def _record(given: s.AmountIn) -> Amount:
    return Amount(given.gpu_milli.named(), given.gpu_memory_mib.named(), given.cpu_milli, given.ram_mib)
