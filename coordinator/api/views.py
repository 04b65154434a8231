"""Records as JSON: tenants, nodes, federations, models."""

from __future__ import annotations

import math
from collections.abc import Mapping

from common.clock import iso
from coordinator.api import schemas as s
from coordinator.api import schemas_federations as sf
from coordinator.api import schemas_models as m
from coordinator.domain.models import Alias, Deployment, ModelVersion
from coordinator.domain.tenancy import ApiToken, Federation, Tenant


def maybe(seconds: float | None) -> str | None:
    """Return a time, or null."""
    return None if seconds is None else iso(seconds)


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return metrics as JSON can say them: NaN and the infinities become null."""
    return {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}


def tenant(record: Tenant) -> s.TenantOut:
    """Return a tenant."""
    return s.TenantOut(id=record.id, title=record.title, created_at=iso(record.created_at))


def token(record: ApiToken) -> s.TokenOut:
    """Return an API token without its secret."""
    return s.TokenOut(
        id=record.id,
        tenant=record.tenant,
        role=record.role,
        subject=record.subject,
        created_at=iso(record.created_at),
        expires_at=maybe(record.expires_at),
        revoked=record.revoked,
    )


def federation(record: Federation) -> sf.FederationOut:
    """Return a federation and where each tenant stands."""
    members = [sf.MemberOut(tenant=t, acceptance=a.value) for t, a in sorted(record.members.items())]
    return sf.FederationOut(
        id=record.id,
        owner=record.owner,
        title=record.title,
        individual_replies=record.individual_replies,
        minimum_mode="mask" if record.minimum_mode == "mask" else "plain",
        created_at=iso(record.created_at),
        members=members,
    )


def version(record: ModelVersion) -> m.ModelVersionOut:
    """Return a model version."""
    return m.ModelVersionOut(
        tenant=record.tenant,
        model=record.model,
        version=record.version,
        manifest=record.manifest,
        manifest_size=record.manifest_size,
        federation=record.federation,
        job=record.job,
        round=record.round,
        created_at=iso(record.created_at),
        metrics=finite(record.metrics),
        servable=record.servable,
    )


def alias(record: Alias) -> m.AliasOut:
    """Return an alias."""
    return m.AliasOut(
        name=record.name,
        version=record.version,
        generation=record.generation,
        moved_by=record.moved_by,
        moved_at=iso(record.moved_at),
    )


def deployment(record: Deployment, node_name: str) -> m.DeploymentOut:
    """Return a deployment."""
    return m.DeploymentOut(
        tenant=record.tenant,
        model=record.model,
        version=record.version,
        node=record.node,
        node_name=node_name,
        wanted=record.wanted,
        state=record.state,
        message=record.message,
        url=record.url,
        updated_at=iso(record.updated_at),
    )
