"""Tenants, tokens, federations and nodes in tables."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from common.ids import FederationId, NodeId, TenantId
from coordinator.adapters.sql import tables as t
from coordinator.adapters.sql.rows import Rows
from coordinator.domain.nodes import Node
from coordinator.domain.tenancy import ApiToken, Federation, JoinToken, Tenant

_TENANTS = Rows(t.TENANTS, Tenant)
_API_TOKENS = Rows(t.API_TOKENS, ApiToken)
_FEDERATIONS = Rows(t.FEDERATIONS, Federation)
_JOIN_TOKENS = Rows(t.JOIN_TOKENS, JoinToken)
_NODES = Rows(t.NODES, Node)


class SqlTenants:
    """``coordinator.ports.store.Tenants`` in one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, tenant: Tenant) -> None:
        _TENANTS.insert(self._connection, tenant)

    def get(self, tenant: TenantId) -> Tenant | None:
        return _TENANTS.one(self._connection, _TENANTS.select().where(t.TENANTS.c.id == tenant))

    def list(self) -> Sequence[Tenant]:
        return _TENANTS.all(self._connection, _TENANTS.select().order_by(t.TENANTS.c.id))

    def add_token(self, token: ApiToken) -> None:
        _API_TOKENS.insert(self._connection, token)

    def token(self, token_id: str) -> ApiToken | None:
        return _API_TOKENS.one(self._connection, _API_TOKENS.select().where(t.API_TOKENS.c.id == token_id))

    def tokens(self, tenant: TenantId) -> Sequence[ApiToken]:
        query = _API_TOKENS.select().where(t.API_TOKENS.c.tenant == tenant)
        return _API_TOKENS.all(self._connection, query.order_by(t.API_TOKENS.c.created_at, t.API_TOKENS.c.id))

    def revoke_token(self, token_id: str) -> bool:
        change = sa.update(t.API_TOKENS).where(t.API_TOKENS.c.id == token_id).values(revoked=True)
        return self._connection.execute(change).rowcount == 1

    def put_federation(self, federation: Federation) -> None:
        _FEDERATIONS.put(self._connection, federation)

    def federation(self, federation: FederationId) -> Federation | None:
        return _FEDERATIONS.one(self._connection, _FEDERATIONS.select().where(t.FEDERATIONS.c.id == federation))

    def federations(self) -> Sequence[Federation]:
        return _FEDERATIONS.all(self._connection, _FEDERATIONS.select().order_by(t.FEDERATIONS.c.id))


class SqlNodes:
    """``coordinator.ports.store.Nodes`` in one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add_join_token(self, token: JoinToken) -> None:
        _JOIN_TOKENS.insert(self._connection, token)

    def join_token(self, token_id: str) -> JoinToken | None:
        return _JOIN_TOKENS.one(self._connection, _JOIN_TOKENS.select().where(t.JOIN_TOKENS.c.id == token_id))

    def burn_join_token(self, token_id: str, node: NodeId, key_sha256: str, now: float) -> bool:
        tokens = t.JOIN_TOKENS
        free = (tokens.c.id == token_id) & tokens.c.used_by.is_(None) & (tokens.c.expires_at > now)
        change = sa.update(tokens).where(free).values(used_by=node, used_key_sha256=key_sha256)
        return self._connection.execute(change).rowcount == 1

    def put(self, node: Node) -> None:
        _NODES.put(self._connection, node)

    def get(self, node: NodeId) -> Node | None:
        return _NODES.one(self._connection, _NODES.select().where(t.NODES.c.id == node))

    def list(self, tenants: frozenset[TenantId] | None = None) -> Sequence[Node]:
        query = _NODES.select().order_by(t.NODES.c.tenant, t.NODES.c.name)
        if tenants is not None:
            query = query.where(t.NODES.c.tenant.in_(sorted(tenants)))
        return _NODES.all(self._connection, query)
