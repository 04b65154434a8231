"""Grants, allowances and the account of what each tenant has stored, in tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from common.ids import Digest, TenantId
from coordinator.adapters.sql import tables as t
from coordinator.adapters.sql.rows import Rows, insert_if_new
from coordinator.domain.quotas import Allowance, Grant

_GRANTS = Rows(t.GRANTS, Grant)
_ALLOWANCES = Rows(t.ALLOWANCES, Allowance)


_TOTAL = t.STORED_TOTALS.c
_ADD = (
    sa.update(t.STORED_TOTALS)
    .where(_TOTAL.tenant == sa.bindparam("whose", type_=t.Words))
    .values(bytes=_TOTAL.bytes + sa.bindparam("size", type_=sa.BigInteger))
    .returning(_TOTAL.bytes)
)


class SqlQuotas:
    """``coordinator.ports.store.Quotas`` in one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def grants(self, *, site: TenantId | None = None, tenant: TenantId | None = None) -> Sequence[Grant]:
        rows = t.GRANTS.c
        query = _GRANTS.select().order_by(rows.site, rows.tenant)
        for column, wanted in ((rows.site, site), (rows.tenant, tenant)):
            if wanted is not None:
                query = query.where(column == wanted)
        return _GRANTS.all(self._connection, query)

    def grant(self, site: TenantId, tenant: TenantId) -> Grant | None:
        rows = t.GRANTS.c
        return _GRANTS.one(self._connection, _GRANTS.select().where(rows.site == site, rows.tenant == tenant))

    def put_grant(self, grant: Grant, *, expected_generation: int) -> bool:
        written = replace(grant, generation=expected_generation + 1)
        if expected_generation == 0:
            return _GRANTS.add_if_new(self._connection, written)
        change = sa.update(t.GRANTS).where(_that_grant(grant.site, grant.tenant, expected_generation))
        return self._changed(change.values(**_GRANTS.values(written)))

    def remove_grant(self, site: TenantId, tenant: TenantId, *, expected_generation: int) -> bool:
        return self._changed(sa.delete(t.GRANTS).where(_that_grant(site, tenant, expected_generation)))

    def allowances(self) -> Sequence[Allowance]:
        return _ALLOWANCES.all(self._connection, _ALLOWANCES.select().order_by(t.ALLOWANCES.c.tenant))

    def allowance(self, tenant: TenantId) -> Allowance | None:
        return _ALLOWANCES.one(self._connection, _ALLOWANCES.select().where(t.ALLOWANCES.c.tenant == tenant))

    def put_allowance(self, allowance: Allowance, *, expected_generation: int) -> bool:
        written = replace(allowance, generation=expected_generation + 1)
        if expected_generation == 0:
            return _ALLOWANCES.add_if_new(self._connection, written)
        change = sa.update(t.ALLOWANCES).where(_that_allowance(allowance.tenant, expected_generation))
        return self._changed(change.values(**_ALLOWANCES.values(written)))

    def remove_allowance(self, tenant: TenantId, *, expected_generation: int) -> bool:
        return self._changed(sa.delete(t.ALLOWANCES).where(_that_allowance(tenant, expected_generation)))

    def keep(self, tenant: TenantId, digest: Digest, size: int) -> int | None:
        if not insert_if_new(self._connection, t.STORED, {"tenant": tenant, "digest": digest, "size": size}):
            return None
        total = self._add(tenant, size)
        if total is None:
            self._connection.execute(sa.insert(t.STORED_TOTALS), {"tenant": tenant, "bytes": size})
        return size if total is None else total

    def drop(self, tenant: TenantId, digest: Digest) -> None:
        rows = t.STORED.c
        gone = sa.delete(t.STORED).where(rows.tenant == tenant, rows.digest == digest).returning(rows.size)
        size: int | None = self._connection.execute(gone).scalar_one_or_none()
        if size is not None:
            self._add(tenant, -size)

    def stored(self, tenant: TenantId) -> int:
        query = sa.select(t.STORED_TOTALS.c.bytes).where(t.STORED_TOTALS.c.tenant == tenant)
        return self._connection.execute(query).scalar_one_or_none() or 0

    def _add(self, tenant: TenantId, size: int) -> int | None:
        found: int | None = self._connection.execute(_ADD, {"whose": tenant, "size": size}).scalar_one_or_none()
        return found

    def _changed(self, change: sa.Update | sa.Delete) -> bool:
        return self._connection.execute(change).rowcount == 1


def _that_grant(site: TenantId, tenant: TenantId, generation: int) -> sa.ColumnElement[Any]:
    rows = t.GRANTS.c
    return (rows.site == site) & (rows.tenant == tenant) & (rows.generation == generation)


def _that_allowance(tenant: TenantId, generation: int) -> sa.ColumnElement[Any]:
    rows = t.ALLOWANCES.c
    return (rows.tenant == tenant) & (rows.generation == generation)
