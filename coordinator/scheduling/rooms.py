"""How many tasks a tenant's limits admit, beside what its reserved and its older asks will need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from common.ids import TenantId
from coordinator.scheduling.accounts import Sites, most
from coordinator.scheduling.line import BORROWS, Key, Queue
from coordinator.scheduling.pool import NEVER_MS
from coordinator.scheduling.quota import Held, limit_room, parts
from coordinator.scheduling.records import Ask, Need
from coordinator.scheduling.reserve import Reservation
from coordinator.scheduling.world import World

Rooms = dict[TenantId, int]  # tasks by site; a site that is not named is not bound
_NOTHING: Held = Counter()


def limit_rooms(world: World, ask: Ask, sites: Sites) -> Rooms:
    """Return what the limits admit now, by site; a site that is not named is not bound."""
    return _rooms(world, ask.tenant, sites, ask.need, {})


def kept_rooms(
    world: World, ask: Ask, sites: Sites, key: Key, reserved: Sequence[Reservation], end_ms: int
) -> tuple[Rooms, bool]:
    """Return what the limits admit until ``end_ms``, and whether an older ask that they stop had a say in it.

    What outlasts the start of the tenant's own reserved ask must leave it its part of the limits, and so must what
    outlasts the time at which they admit an older ask: else its smaller asks would starve it.
    """
    if not world.accounts.grants.get(ask.tenant):
        return {}, False
    extra: dict[TenantId, Held] = {}
    for kept in (r for r in reserved if r.ask.tenant == ask.tenant and r.at_ms < end_ms):
        for site, tasks in kept.sites.items():
            extra.setdefault(site, Counter()).update({part: each * tasks for part, each in parts(kept.ask.need)})
    rooms = _rooms(world, ask.tenant, sites, ask.need, extra)
    older = _stopped(world, ask.tenant, key) if key[0] == BORROWS else None
    if older is None:
        return rooms, False
    if end_ms > _admitted_ms(world, older):
        rooms |= {site: 0 for site in older.reach.sites if site in sites}
    return rooms, True


def _stopped(world: World, tenant: TenantId, key: Key) -> Queue | None:
    """Return the tenant's first queue before ``key`` that its limits stop now, but would not if it held nothing."""
    first: tuple[Key, Queue] | None = None
    for queue in world.line.of.get(tenant, {}).values():
        its = world.key(queue)
        if its < key and (first is None or its < first[0]) and _is_stopped(world, queue):
            first = (its, queue)
    return None if first is None else first[1]


def _is_stopped(world: World, queue: Queue) -> bool:
    ask, sites, m = queue.head, queue.reach.sites, queue.name[2]
    if most(limit_rooms(world, ask, sites), sites) >= m:
        return False
    empty = {s: limit_room(g, _NOTHING, ask.need) for s, g in world.accounts.grants[ask.tenant].items() if s in sites}
    return most(empty, sites) >= m


def _admitted_ms(world: World, queue: Queue) -> int:
    """Return when enough of the tenant's leases have ended for its limits to admit the head of ``queue``."""
    ask, sites = queue.head, queue.reach.sites
    freed: dict[TenantId, Held] = {}
    mine = (lease for lease in world.accounts.leases.get(ask.tenant, {}).values() if lease.site in sites)
    for lease in sorted(mine, key=lambda lease: (lease.until_ms, lease.ask, lease.node)):
        held = freed.setdefault(lease.site, Counter())
        for part, each in parts(lease.need):
            held[part] -= each
        if most(_rooms(world, ask.tenant, sites, ask.need, freed), sites) >= ask.m:
            return lease.until_ms
    return NEVER_MS


def _rooms(world: World, tenant: TenantId, sites: Sites, need: Need, extra: Mapping[TenantId, Held]) -> Rooms:
    rooms: Rooms = {}
    mine = world.accounts.held.get(tenant, {})
    for site, grant in world.accounts.grants.get(tenant, {}).items():
        if site in sites:
            held = mine.get(site, _NOTHING)
            if site in extra:
                held = Counter({part: held[part] + extra[site][part] for part in {*held, *extra[site]}})
            rooms[site] = limit_room(grant, held, need)
    return rooms
