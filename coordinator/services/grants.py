"""Grants: what the owner of a site gives each tenant there.

Only a tenant that shares a federation with the site can be given anything: of others the owner knows nothing.  Whether
the caller may do any of this is the policies' matter.
"""

from __future__ import annotations

from collections.abc import Callable

from common.clock import Clock
from common.errors import ChangedMeanwhile, NotFound
from common.ids import TenantId
from coordinator.admission.terms import capacity, check_terms, shortfalls
from coordinator.domain.quotas import Amount, Grant, Terms
from coordinator.domain.tenancy import PLATFORM
from coordinator.ports.store import Store, Tx
from coordinator.services.federations import present
from coordinator.services.preconditions import Seen

Held = Callable[[TenantId, TenantId], Amount | None]  # (site, tenant) -> what the tenant holds there now, if known
Changed = Callable[[TenantId, TenantId, Grant | None], None]  # (site, tenant, the grant or None where it was removed)


class Grants:
    """Sets, shows and removes grants.

    Args:
        store: Records.
        clock: Time.
        held: What a tenant holds at a site now; None = not known.
        changed: Told of every change on the event loop, after it is durable.
    """

    def __init__(self, store: Store, clock: Clock, *, held: Held, changed: Changed) -> None:
        self._store, self._clock = store, clock
        self.held = held
        self._changed = changed

    async def every(self, site: TenantId | None = None, tenant: TenantId | None = None) -> list[Grant]:
        """Return all grants, or those of a site or a tenant, by (site, tenant)."""
        return await self._store.read(lambda tx: list(tx.quotas.grants(site=site, tenant=tenant)))

    async def get(self, site: TenantId, tenant: TenantId) -> Grant:
        """Return one grant.

        Raises:
            NotFound: nothing was given.
        """
        found = await self._store.read(lambda tx: tx.quotas.grant(site, tenant))
        if found is None:
            raise _none(site, tenant)
        return found

    async def set(self, site: TenantId, tenant: TenantId, terms: Terms, by: str, seen: Seen) -> Grant:
        """Give ``tenant`` these terms at ``site``; giving what it has is no change and no error.

        Raises:
            BadInput: the terms contradict themselves.
            NotFound: no such tenant in any federation of the site.
            ChangedMeanwhile: the grant is not the one that was seen.
        """
        check_terms(terms)
        now = self._clock.now()

        def work(tx: Tx) -> tuple[Grant, bool]:
            _acquainted(tx, site, tenant)
            found = tx.quotas.grant(site, tenant)
            if found is not None and Terms(found.guarantee, found.limit, found.weight) == terms:
                return found, False
            seen.check(f"the quota of {tenant} at {site}", found)
            before = found.generation if found else 0
            made = Grant(site, tenant, terms.guarantee, terms.limit, terms.weight, before + 1, by, now)
            if not tx.quotas.put_grant(made, expected_generation=before):
                raise ChangedMeanwhile(f"the quota of {tenant} at {site} is being changed by somebody else")
            return made, True

        grant, fresh = await self._store.write(work)
        if fresh:
            self._changed(site, tenant, grant)
        return grant

    async def remove(self, site: TenantId, tenant: TenantId, seen: Seen) -> None:
        """Take the grant back: the tenant is guaranteed nothing, limited by nothing and weighs 1 again.

        Raises:
            NotFound: nothing was given.
            ChangedMeanwhile: the grant is not the one that was seen.
        """

        def work(tx: Tx) -> None:
            found = tx.quotas.grant(site, tenant)
            if found is None:
                raise _none(site, tenant)
            seen.check(f"the quota of {tenant} at {site}", found)
            tx.quotas.remove_grant(site, tenant, expected_generation=found.generation)

        await self._store.write(work)
        self._changed(site, tenant, None)

    async def warnings(self, site: TenantId) -> list[str]:
        """Say what is promised at ``site`` beyond what its nodes have.

        Nodes come and go, and a grant may be set before the first one joins, so this is said and not refused; the
        scheduler serves guarantees as far as there are devices.
        """
        grants, nodes = await self._store.read(
            lambda tx: (list(tx.quotas.grants(site=site)), list(tx.nodes.list(frozenset({site}))))
        )
        return shortfalls(capacity(nodes), [grant.guarantee for grant in grants])


def _acquainted(tx: Tx, site: TenantId, tenant: TenantId) -> None:
    if site == PLATFORM or tx.tenants.get(site) is None:
        raise NotFound(f"no site {site[:60]!r}")
    if tenant == site:
        return
    if not any({site, tenant} <= present(federation) for federation in tx.tenants.federations()):
        raise NotFound(
            f"{site} shares no federation with a tenant {tenant[:60]!r}",
            next_step=f"hansa federation invite FEDERATION {tenant}",
        )


def _none(site: TenantId, tenant: TenantId) -> NotFound:
    return NotFound(f"{site} has set no quota for {tenant[:60]!r}", next_step="hansa quota ls shows those you may see")
