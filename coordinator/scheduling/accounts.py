"""What tenants hold and have used at each site, against what the sites' owners grant them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from common.ids import NodeId, TenantId
from coordinator.domain.quotas import Grant
from coordinator.scheduling import usage
from coordinator.scheduling.quota import Held, guarantee_room, limit_room, parts
from coordinator.scheduling.records import Lease, Need, Policy

Sites = Mapping[TenantId, int]  # nodes by site
Rooms = dict[TenantId, int]  # tasks by site


class Accounts:
    """Grants, holdings and use, by tenant and site."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.grants: dict[TenantId, dict[TenantId, Grant]] = {}  # tenant -> site -> grant
        self.held: dict[TenantId, dict[TenantId, Held]] = {}
        self.leases: dict[TenantId, dict[tuple[str, NodeId], Lease]] = {}  # by tenant, ask and node
        self.use: usage.Use = {}  # (site, tenant)
        self.origin_ms = 0
        self.granted_at: dict[TenantId, set[TenantId]] = {}  # site -> tenants
        self._used_at: dict[TenantId, set[TenantId]] = {}
        self._rooms: dict[TenantId, dict[tuple[TenantId, Need], tuple[int, int]]] = {}  # worked out before

    def put(self, grant: Grant) -> None:
        """Set a grant in the place of what was there."""
        self.grants.setdefault(grant.tenant, {})[grant.site] = grant
        self.granted_at.setdefault(grant.site, set()).add(grant.tenant)
        self._rooms.pop(grant.tenant, None)

    def remove(self, site: TenantId, tenant: TenantId) -> None:
        """Take a grant back."""
        self.grants.get(tenant, {}).pop(site, None)
        self.granted_at.get(site, set()).discard(tenant)
        self._rooms.pop(tenant, None)

    def start_from(self, use: Mapping[tuple[TenantId, TenantId], float], origin_ms: int) -> None:
        """Go on from what was used before."""
        self.use, self.origin_ms = dict(use), origin_ms
        self._used_at = {}
        for site, tenant in use:
            self._used_at.setdefault(tenant, set()).add(site)

    def rebase(self, now_ms: int) -> bool:
        """Move the origin of the use on if that is due; tell whether it moved."""
        before = self.origin_ms
        self.use, self.origin_ms = usage.rebased(self.use, self.policy, before, now_ms)
        return self.origin_ms != before

    def hold(self, lease: Lease, sign: int = 1) -> None:
        """Count a lease among what its tenant holds (``sign`` -1: no more)."""
        mine = self.leases.setdefault(lease.tenant, {})
        if sign > 0:
            mine[lease.ask, lease.node] = lease
        else:
            del mine[lease.ask, lease.node]
        held = self.held.setdefault(lease.tenant, {}).setdefault(lease.site, Counter())
        for part, each in parts(lease.need):
            held[part] += sign * each
        self._rooms.pop(lease.tenant, None)

    def charge(self, lease: Lease) -> None:
        """Book the expected cost of a lease that starts."""
        self._used_at.setdefault(lease.tenant, set()).add(lease.site)
        usage.charge(self.use, self.policy, self.origin_ms, lease)

    def settle(self, lease: Lease, end_ms: int) -> None:
        """Replace the expected cost of a lease by the true one."""
        self._used_at.setdefault(lease.tenant, set()).add(lease.site)
        usage.settle(self.use, self.policy, self.origin_ms, lease, end_ms)

    def welcome(self, site: TenantId, tenant: TenantId, active: Sequence[tuple[TenantId, int]]) -> None:
        """Let a tenant that comes back to a site start level with the least of the active ones there."""
        self._used_at.setdefault(tenant, set()).add(site)
        usage.welcome(self.use, site, tenant, self.weight(site, tenant), active)

    def weight(self, site: TenantId, tenant: TenantId) -> int:
        """Return the tenant's weight at the site."""
        grant = self.grants.get(tenant, {}).get(site)
        return 1 if grant is None else grant.weight

    def share(self, tenant: TenantId, sites: Sites) -> float:
        """Return what the tenant has used, by weight, at all of ``sites`` together."""
        if not self.policy.fair:
            return 0.0
        used = self._used_at.get(tenant, ())
        return math.fsum(self.use.get((s, tenant), 0.0) / self.weight(s, tenant) for s in used if s in sites)

    def limit_rooms(self, tenant: TenantId, sites: Sites, need: Need) -> Rooms:
        """Return how many more tasks the limits admit; a site that is not named is not bound."""
        return {site: self._room(site, tenant, need)[0] for site in self.grants.get(tenant, ()) if site in sites}

    def guarantee_rooms(self, tenant: TenantId, sites: Sites, need: Need) -> Rooms:
        """Return how many more tasks are guaranteed; at a site that is not named none are."""
        rooms = {site: self._room(site, tenant, need)[1] for site in self.grants.get(tenant, ()) if site in sites}
        return {site: room for site, room in rooms.items() if room}

    def limit_rooms_with(self, tenant: TenantId, sites: Sites, need: Need, extra: Mapping[TenantId, Held]) -> Rooms:
        """Return what ``limit_rooms`` would if ``extra``, by site, were held too (less, where it is negative)."""
        rooms = self.limit_rooms(tenant, sites, need)
        for site in rooms.keys() & extra.keys():
            held = Counter(self._held(site, tenant))
            for part, amount in extra[site].items():
                held[part] += amount
            rooms[site] = limit_room(self.grants[tenant][site], held, need)
        return rooms

    def empty_rooms(self, tenant: TenantId, sites: Sites, need: Need) -> Rooms:
        """Return what ``limit_rooms`` would if the tenant held nothing."""
        grants = self.grants.get(tenant, {})
        return {site: limit_room(grant, _NOTHING, need) for site, grant in grants.items() if site in sites}

    def _room(self, site: TenantId, tenant: TenantId, need: Need) -> tuple[int, int]:
        known = self._rooms.setdefault(tenant, {})
        room = known.get((site, need))
        if room is None:
            grant, held = self.grants[tenant][site], self._held(site, tenant)
            room = known[site, need] = (limit_room(grant, held, need), guarantee_room(grant, held, need))
        return room

    def _held(self, site: TenantId, tenant: TenantId) -> Held:
        return self.held.get(tenant, {}).get(site, _NOTHING)


_NOTHING: Held = Counter()


def most(rooms: Mapping[TenantId, int], sites: Sites) -> int:
    """Return how many tasks fit in ``rooms`` if all nodes were free; a site without a room is not bound."""
    return sum(sites.values()) - sum(max(0, sites[site] - room) for site, room in rooms.items())


def inside(rooms: Mapping[TenantId, int], sites: Sites) -> int:
    """Return how many tasks fit in ``rooms`` if all nodes were free; a site without a room has none."""
    return sum(min(sites[site], room) for site, room in rooms.items())
