"""Model versions, aliases, deployments and apps in tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from common.ids import AppDigest, JobId, NodeId, TenantId
from coordinator.adapters.sql import tables as t
from coordinator.adapters.sql.rows import Rows, insert_if_new
from coordinator.domain.models import Alias, Deployment, ModelVersion

_VERSIONS = Rows(t.MODEL_VERSIONS, ModelVersion)
_ALIASES = Rows(t.ALIASES, Alias)
_DEPLOYMENTS = Rows(t.DEPLOYMENTS, Deployment)


class SqlModels:
    """``coordinator.ports.store.Models`` in one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add_version(self, version: ModelVersion) -> None:
        _VERSIONS.insert(self._connection, version)

    def next_version(self, tenant: TenantId, model: str) -> int:
        rows = t.MODEL_VERSIONS.c
        query = sa.select(sa.func.coalesce(sa.func.max(rows.version), 0) + 1)
        found: int = self._connection.execute(query.where(rows.tenant == tenant, rows.model == model)).scalar_one()
        return found

    def version(self, tenant: TenantId, model: str, version: int) -> ModelVersion | None:
        rows = t.MODEL_VERSIONS.c
        query = _VERSIONS.select().where(rows.tenant == tenant, rows.model == model, rows.version == version)
        return _VERSIONS.one(self._connection, query)

    def versions(self, tenant: TenantId, model: str | None = None) -> Sequence[ModelVersion]:
        rows = t.MODEL_VERSIONS.c
        query = _VERSIONS.select().where(rows.tenant == tenant).order_by(rows.model, rows.version)
        return _VERSIONS.all(self._connection, query if model is None else query.where(rows.model == model))

    def version_of_job(self, job: JobId, round_: int) -> ModelVersion | None:
        rows = t.MODEL_VERSIONS.c
        return _VERSIONS.one(self._connection, _VERSIONS.select().where(rows.job == job, rows.round == round_))

    def alias(self, tenant: TenantId, model: str, name: str) -> Alias | None:
        rows = t.ALIASES.c
        query = _ALIASES.select().where(rows.tenant == tenant, rows.model == model, rows.name == name)
        return _ALIASES.one(self._connection, query)

    def aliases(self, tenant: TenantId, model: str) -> Sequence[Alias]:
        rows = t.ALIASES.c
        query = _ALIASES.select().where(rows.tenant == tenant, rows.model == model)
        return _ALIASES.all(self._connection, query.order_by(rows.name))

    def move_alias(self, alias: Alias, *, expected_generation: int) -> bool:
        moved = replace(alias, generation=expected_generation + 1)
        if expected_generation == 0:
            return _ALIASES.add_if_new(self._connection, moved)
        rows = t.ALIASES.c
        found = (rows.tenant == alias.tenant) & (rows.model == alias.model) & (rows.name == alias.name)
        change = sa.update(t.ALIASES).where(found, rows.generation == expected_generation)
        return self._connection.execute(change.values(**_ALIASES.values(moved))).rowcount == 1

    def put_deployment(self, deployment: Deployment) -> None:
        _DEPLOYMENTS.put(self._connection, deployment)

    def deployments(
        self, *, tenant: TenantId | None = None, model: str | None = None, node: NodeId | None = None
    ) -> Sequence[Deployment]:
        rows = t.DEPLOYMENTS.c
        query = _DEPLOYMENTS.select().order_by(rows.tenant, rows.model, rows.version, rows.node)
        for column, wanted in ((rows.tenant, tenant), (rows.model, model), (rows.node, node)):
            if wanted is not None:
                query = query.where(column == wanted)
        return _DEPLOYMENTS.all(self._connection, query)


class SqlApps:
    """``coordinator.ports.store.Apps`` in one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def put(self, app: AppDigest, tenant: TenantId, name: str, bundle: str, size: int, now: float) -> None:
        row = {"tenant": tenant, "digest": app, "name": name, "bundle": bundle, "size": size, "created_at": now}
        insert_if_new(self._connection, t.APPS, row)

    def get(self, app: AppDigest, tenant: TenantId) -> tuple[str, str, int] | None:
        rows = t.APPS.c
        query = sa.select(rows.name, rows.bundle, rows.size).where(rows.tenant == tenant, rows.digest == app)
        found = self._connection.execute(query).first()
        return None if found is None else (found[0], found[1], found[2])
