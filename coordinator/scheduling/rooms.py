"""How many tasks a tenant's limits admit, beside what its reserved and its older asks will need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from common.ids import TenantId
from coordinator.scheduling.accounts import Rooms, Sites, most
from coordinator.scheduling.line import BORROWS, Key, Queue
from coordinator.scheduling.pool import NEVER_MS
from coordinator.scheduling.quota import Held, parts
from coordinator.scheduling.records import Ask, Need
from coordinator.scheduling.reserve import Reservation
from coordinator.scheduling.world import World


def kept_rooms(
    world: World, ask: Ask, sites: Sites, key: Key, reserved: Sequence[Reservation], end_ms: int
) -> tuple[Rooms, bool]:
    """Return what the limits admit until ``end_ms``, and whether an older ask that they stop had a say in it.

    What outlasts the start of the tenant's own reserved ask must leave it its part of the limits, and so must what
    outlasts the time at which they admit an older ask: else its smaller asks would starve it.
    """
    accounts, tenant = world.accounts, ask.tenant
    if not accounts.grants.get(tenant):
        return {}, False
    extra: dict[TenantId, Held] = {}
    for kept in reserved:
        if kept.ask.tenant == tenant and kept.at_ms < end_ms:
            _count(extra, kept.ask.need, kept.sites)
    rooms = accounts.limit_rooms_with(tenant, sites, ask.need, extra)
    older = _stopped(world, tenant, key) if key[0] == BORROWS else None
    if older is None:
        return rooms, False
    if end_ms > admitted_ms(world, older):
        rooms |= {site: 0 for site in older.reach.sites if site in sites}
    return rooms, True


def _stopped(world: World, tenant: TenantId, key: Key) -> Queue | None:
    """Return the tenant's first queue before ``key`` that its limits stop now, but would not if it held nothing."""
    first: tuple[Key, Queue] | None = None
    for queue in world.line.of.get(tenant, {}).values():
        if _is_stopped(world, queue):
            its = world.key(queue)
            if its < key and (first is None or its < first[0]):
                first = (its, queue)
    return None if first is None else first[1]


def _is_stopped(world: World, queue: Queue) -> bool:
    need, sites, m = queue.reach.key[0], queue.reach.sites, queue.name[2]
    if len(queue.reach.able) - sum(sites.get(site, 0) for site in world.accounts.grants[queue.tenant]) >= m:
        return False  # there are enough nodes where nothing limits it
    if most(world.accounts.limit_rooms(queue.tenant, sites, need), sites) >= m:
        return False
    return most(world.accounts.empty_rooms(queue.tenant, sites, need), sites) >= m


def admitted_ms(world: World, queue: Queue) -> int:
    """Return when enough of the tenant's leases have ended for its limits to admit the head of ``queue``."""
    ask, sites, accounts = queue.head, queue.reach.sites, world.accounts
    freed: dict[TenantId, Held] = {}
    mine = (lease for lease in accounts.leases.get(ask.tenant, {}).values() if lease.site in sites)
    for lease in sorted(mine, key=lambda lease: (lease.until_ms, lease.ask, lease.node)):
        _count(freed, lease.need, {lease.site: -1})
        if most(accounts.limit_rooms_with(ask.tenant, sites, ask.need, freed), sites) >= ask.m:
            return lease.until_ms
    return NEVER_MS


def _count(held: dict[TenantId, Held], need: Need, tasks: Sites) -> None:
    for site, number in tasks.items():
        its = held.setdefault(site, Counter())
        for part, each in parts(need):
            its[part] += each * number
