"""Who is asking: tenants, API tokens and join tokens.

Secrets are shown once and kept hashed.  A bearer that fails does so with one sentence, whatever was wrong with it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from common.clock import Clock
from common.crypto import files, tokens
from common.errors import BadInput, Conflict, NotFound, Unauthenticated
from common.ids import TenantId, slug
from coordinator.domain.tenancy import PLATFORM, ApiToken, JoinToken, Principal, Role, Tenant
from coordinator.ports.store import Store, Tx

ISSUER = "hansa"  # of the built-in tokens
MAX_TTL_S = 366 * 86400.0
_NO_TOKEN = tokens.secret_sha256("")  # compared with when there is no such token, so that both take the same time


class Identity:
    """Issues and checks the built-in tokens."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def authenticate(self, bearer: str) -> Principal:
        """Return who holds the API token ``bearer``.

        Raises:
            Unauthenticated: it is malformed, unknown, wrong, expired or revoked.
        """
        try:
            token_id, secret = tokens.parse_api_token(bearer)
        except BadInput:
            raise _refused() from None
        token = await self._store.read(lambda tx: tx.tenants.token(token_id))
        matches = tokens.secret_matches(secret, token.secret_sha256 if token else _NO_TOKEN)
        if token is None or not matches or not self._live(token):
            raise _refused()
        return Principal(ISSUER, token.subject, frozenset({token.tenant}), frozenset({token.role}))

    async def create_tenant(self, id_: str, title: str) -> Tenant:
        """Create a tenant.

        Raises:
            Conflict: the id is taken or reserved. BadInput: it is no slug.
        """
        tenant = Tenant(TenantId(slug(id_, what="tenant")), title, self._clock.now())
        if tenant.id == PLATFORM:
            raise Conflict(f"{PLATFORM!r} is reserved for those who run the coordinator")
        await self._store.write(lambda tx: tx.tenants.add(tenant))
        return tenant

    async def tenants(self) -> list[Tenant]:
        """Return all organisations, by id."""
        every = await self._store.read(lambda tx: list(tx.tenants.list()))
        return sorted((t for t in every if t.id != PLATFORM), key=lambda t: t.id)

    async def create_token(
        self, tenant: TenantId, role: Role, subject: str, ttl_s: float | None
    ) -> tuple[str, ApiToken]:
        """Return the text, shown this once, and the record of a new API token.

        Raises:
            NotFound: no such tenant. BadInput: the role does not belong there, or the time is out of range.
        """
        if (role is Role.PLATFORM_ADMIN) != (tenant == PLATFORM):
            raise BadInput(f"role {role} cannot be given in tenant {tenant}")
        text, token = self._mint(tenant, role, subject, _checked_ttl(ttl_s))

        def work(tx: Tx) -> None:
            _exists(tx, tenant)
            tx.tenants.add_token(token)

        await self._store.write(work)
        return text, token

    async def tokens(self, tenant: TenantId) -> list[ApiToken]:
        """Return the tenant's API tokens, oldest first; hashes only."""
        every = await self._store.read(lambda tx: list(tx.tenants.tokens(tenant)))
        return sorted(every, key=lambda t: (t.created_at, t.id))

    async def revoke_token(self, tenant: TenantId, token_id: str) -> ApiToken:
        """Revoke a token of ``tenant`` from now on; revoking twice is revoking once.

        Raises:
            NotFound: the tenant has no such token.
        """

        def work(tx: Tx) -> ApiToken:
            token = tx.tenants.token(token_id)
            if token is None or token.tenant != tenant:
                raise NotFound(f"no token {token_id[:60]!r} in tenant {tenant}")
            tx.tenants.revoke_token(token_id)
            return replace(token, revoked=True)

        return await self._store.write(work)

    async def create_join_token(
        self, tenant: TenantId, node_name: str, ttl_s: float, ca_sha256: str
    ) -> tuple[str, JoinToken]:
        """Return the text, shown this once, and the record of a one-use join token.

        Raises:
            NotFound: no such tenant. BadInput: the name is no slug, or the time is out of range.
        """
        if node_name:
            slug(node_name, what="node name")
        made, now, ttl = tokens.make_join_token(tenant, ca_sha256), self._clock.now(), _checked_ttl(ttl_s)
        hashed = tokens.secret_sha256(made.secret)
        record = JoinToken(made.id, hashed, tenant, node_name, now, now + (ttl or MAX_TTL_S))

        def work(tx: Tx) -> None:
            _exists(tx, tenant)
            tx.nodes.add_join_token(record)

        await self._store.write(work)
        return made.text, record

    async def ensure_admin_token(self, path: Path) -> bool:
        """See to it that somebody can administer the platform.

        If no live platform admin token exists, one is made and written to ``path`` (0600); its text is kept nowhere
        else, and a file that the operator has taken away is not written again.  The file comes before the record: a
        crash between the two leaves a token that opens nothing, and the next start makes another.

        Returns:
            Whether a token was made.
        """
        if await self._store.read(self._has_admin):
            return False
        text, token = self._mint(PLATFORM, Role.PLATFORM_ADMIN, "bootstrap", None)
        await asyncio.to_thread(files.write_atomic, path, f"{text}\n".encode(), mode=0o600)

        def work(tx: Tx) -> None:
            if tx.tenants.get(PLATFORM) is None:
                tx.tenants.add(Tenant(PLATFORM, "Those who run the coordinator", token.created_at))
            tx.tenants.add_token(token)

        await self._store.write(work)
        return True

    def _has_admin(self, tx: Tx) -> bool:
        return any(t.role is Role.PLATFORM_ADMIN and self._live(t) for t in tx.tenants.tokens(PLATFORM))

    def _live(self, token: ApiToken) -> bool:
        return not token.revoked and (token.expires_at is None or self._clock.now() < token.expires_at)

    def _mint(self, tenant: TenantId, role: Role, subject: str, ttl_s: float | None) -> tuple[str, ApiToken]:
        token_id, secret, text = tokens.make_api_token()
        now = self._clock.now()
        expires = None if ttl_s is None else now + ttl_s
        return text, ApiToken(token_id, tokens.secret_sha256(secret), tenant, role, subject, now, expires)


def _refused() -> Unauthenticated:
    return Unauthenticated(
        "the API token is missing, wrong, expired or revoked",
        next_step="hansa login --url URL --token TOKEN --ca FILE",
    )


def _checked_ttl(ttl_s: float | None) -> float | None:
    if ttl_s is not None and not 0 < ttl_s <= MAX_TTL_S:
        raise BadInput(f"a token's life of {ttl_s} s must be over 0 and at most {MAX_TTL_S:.0f} s")
    return ttl_s


def _exists(tx: Tx, tenant: TenantId) -> None:
    if tx.tenants.get(tenant) is None:
        raise NotFound(f"no tenant {tenant[:60]!r}")
