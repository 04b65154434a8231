"""One transaction: the six groups of records over one connection."""

from __future__ import annotations

from functools import cached_property

import sqlalchemy as sa

from coordinator.adapters.sql.jobs import SqlJobs
from coordinator.adapters.sql.models import SqlApps, SqlModels
from coordinator.adapters.sql.quotas import SqlQuotas
from coordinator.adapters.sql.schedule import SqlSchedule
from coordinator.adapters.sql.tenancy import SqlNodes, SqlTenants


class SqlTx:
    """A ``coordinator.ports.store.Tx`` over an open transaction; of no use once that has ended."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    @cached_property
    def tenants(self) -> SqlTenants:
        """Tenants, their tokens and federations."""
        return SqlTenants(self._connection)

    @cached_property
    def nodes(self) -> SqlNodes:
        """Nodes and join tokens."""
        return SqlNodes(self._connection)

    @cached_property
    def jobs(self) -> SqlJobs:
        """Jobs, their logs and their journals."""
        return SqlJobs(self._connection)

    @cached_property
    def models(self) -> SqlModels:
        """Model versions, aliases and deployments."""
        return SqlModels(self._connection)

    @cached_property
    def apps(self) -> SqlApps:
        """App archives."""
        return SqlApps(self._connection)

    @cached_property
    def quotas(self) -> SqlQuotas:
        """Grants, allowances and what is stored."""
        return SqlQuotas(self._connection)

    @cached_property
    def schedule(self) -> SqlSchedule:
        """The scheduler's journal."""
        return SqlSchedule(self._connection)
