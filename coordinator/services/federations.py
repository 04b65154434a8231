"""Federations: which tenants agreed to train together.

A tenant is in a federation only from its own acceptance until it leaves; the owner accepts by creating it.  Whether the
caller may do any of this is the policies' matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from common.clock import Clock
from common.errors import BadInput, Conflict, IllegalTransition, NotFound
from common.ids import FederationId, TenantId, slug
from coordinator.domain.tenancy import PLATFORM, Acceptance, Federation, Principal
from coordinator.ports.store import Store, Tx

_PRESENT = frozenset({Acceptance.INVITED, Acceptance.ACCEPTED})


def present(federation: Federation) -> frozenset[TenantId]:
    """Return the tenants that may see ``federation``: invited or accepted, and its owner."""
    return frozenset({federation.owner} | {t for t, a in federation.members.items() if a in _PRESENT})


_NOTHING_TO_SHOW = "a federation of masked sums has no individual replies to show"


class Federations:
    """Creates federations and moves tenants through them."""

    def __init__(
        self, store: Store, clock: Clock, changed: Callable[[Federation], None] = lambda _federation: None
    ) -> None:
        self._store = store
        self._clock = clock
        self._changed = changed  # told of each change: jobs may be running

    async def create(
        self,
        owner: TenantId,
        id_: str,
        title: str,
        tenants: Iterable[str],
        *,
        individual_replies: bool,
        minimum_mode: str = "plain",
    ) -> Federation:
        """Create a federation of ``owner``, which accepts it by this, and invite ``tenants``.

        Raises:
            BadInput: apps cannot see single replies where only masked sums leave the nodes.
            Conflict: the id is taken. NotFound: one of the tenants does not exist.
        """
        name = FederationId(slug(id_, what="federation"))
        members = {TenantId(t): Acceptance.INVITED for t in tenants}
        if owner != PLATFORM:
            members[owner] = Acceptance.ACCEPTED
        if individual_replies and minimum_mode == "mask":
            raise BadInput(_NOTHING_TO_SHOW)
        federation = Federation(name, owner, title, individual_replies, self._clock.now(), members, minimum_mode)

        def work(tx: Tx) -> Federation:
            if tx.tenants.federation(name) is not None:
                raise Conflict(f"federation {name} exists already")
            _all_exist(tx, members)
            tx.tenants.put_federation(federation)
            return federation

        return await self._store.write(work)

    async def invite(self, id_: str, tenants: Iterable[str]) -> Federation:
        """Invite more tenants; those that are in it already stay as they are, those that left may come back.

        Raises:
            NotFound: no such federation or tenant.
        """
        wanted = [TenantId(t) for t in tenants]

        def change(tx: Tx, federation: Federation) -> Federation:
            _all_exist(tx, wanted)
            new = {t: Acceptance.INVITED for t in wanted if federation.members.get(t) not in _PRESENT}
            return replace(federation, members=federation.members | new)

        return await self._change(id_, change)

    async def change(self, id_: str, individual_replies: bool) -> Federation:
        """Let apps see replies one by one, or no longer.

        Allowing it is another federation than the one the members agreed to: all but the owner must accept again.

        Raises:
            NotFound: no such federation. BadInput: only masked sums leave its nodes.
        """

        def change(_: Tx, federation: Federation) -> Federation:
            members = federation.members
            if individual_replies and federation.minimum_mode == "mask":
                raise BadInput(_NOTHING_TO_SHOW)
            if individual_replies and not federation.individual_replies:
                members = {
                    tenant: Acceptance.INVITED if word is Acceptance.ACCEPTED and tenant != federation.owner else word
                    for tenant, word in members.items()
                }
            return replace(federation, individual_replies=individual_replies, members=members)

        return await self._change(id_, change)

    async def accept(self, id_: str, tenant: TenantId) -> Federation:
        """Let ``tenant`` join; accepting twice is accepting once.

        Raises:
            NotFound: no such federation. IllegalTransition: the tenant was not invited.
        """

        def change(_: Tx, federation: Federation) -> Federation:
            if federation.members.get(tenant) not in _PRESENT:
                raise IllegalTransition(
                    f"tenant {tenant} has no invitation to federation {federation.id}",
                    next_step=f"ask an admin of {federation.owner} to invite it",
                )
            return replace(federation, members=federation.members | {tenant: Acceptance.ACCEPTED})

        return await self._change(id_, change)

    async def leave(self, id_: str, tenant: TenantId) -> Federation:
        """Let ``tenant`` leave or decline; leaving twice is leaving once.

        Raises:
            NotFound: no such federation. IllegalTransition: the tenant never was in it.
        """

        def change(_: Tx, federation: Federation) -> Federation:
            if tenant not in federation.members:
                raise IllegalTransition(f"tenant {tenant} is not in federation {federation.id}")
            return replace(federation, members=federation.members | {tenant: Acceptance.LEFT})

        return await self._change(id_, change)

    async def get_visible(self, principal: Principal, id_: str) -> Federation:
        """Return the federation.

        Raises:
            NotFound: there is none, or none that ``principal`` may see.
        """
        found = await self._store.read(lambda tx: tx.tenants.federation(FederationId(id_)))
        if found is None or not _sees(principal, found):
            raise NotFound(f"no federation {id_[:60]!r}", next_step="hansa federation ls shows those you may see")
        return found

    async def list_visible(self, principal: Principal) -> list[Federation]:
        """Return every federation that ``principal`` may see, by id."""
        every = await self._store.read(lambda tx: list(tx.tenants.federations()))
        return sorted((f for f in every if _sees(principal, f)), key=lambda f: f.id)

    async def _change(self, id_: str, change: Callable[[Tx, Federation], Federation]) -> Federation:
        def work(tx: Tx) -> tuple[Federation, bool]:
            federation = tx.tenants.federation(FederationId(id_))
            if federation is None:
                raise NotFound(f"no federation {id_[:60]!r}")
            changed = change(tx, federation)
            if changed != federation:
                tx.tenants.put_federation(changed)
            return changed, changed != federation

        federation, news = await self._store.write(work)
        if news:
            self._changed(federation)
        return federation


def _sees(principal: Principal, federation: Federation) -> bool:
    return principal.is_platform_admin or bool(present(federation) & principal.tenants)


def _all_exist(tx: Tx, tenants: Iterable[TenantId]) -> None:
    missing = sorted(t for t in tenants if t == PLATFORM or tx.tenants.get(t) is None)
    if missing:
        raise NotFound(f"no tenant {', '.join(missing)}", next_step="ask the platform admin to create it")
