"""What tenants hold and have used at each site, against what the sites' owners grant them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

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
        self._weighed: dict[TenantId, tuple[dict[TenantId, float], float]] = {}  # use by site and in all, by weight
        self._rooms: dict[TenantId, dict[Need, dict[TenantId, tuple[TenantId, int, int]]]] = {}  # worked out before

    def put(self, grant: Grant) -> None:
        """Set a grant in the place of what was there."""
        self._reweigh(grant.site, grant.tenant, grant.weight)
        self.grants.setdefault(grant.tenant, {})[grant.site] = grant
        self.granted_at.setdefault(grant.site, set()).add(grant.tenant)
        self._forget(grant.site, grant.tenant)

    def remove(self, site: TenantId, tenant: TenantId) -> None:
        """Take a grant back."""
        self._reweigh(site, tenant, 1)
        self.grants.get(tenant, {}).pop(site, None)
        self.granted_at.get(site, set()).discard(tenant)
        self._forget(site, tenant)

    def _reweigh(self, site: TenantId, tenant: TenantId, weight: int) -> None:
        """Let a new weight count from now on: what was used by weight stays what it was."""
        old = self.weight(site, tenant)
        if weight != old and (site, tenant) in self.use:
            self.use[site, tenant] *= weight / old

    def start_from(self, use: Mapping[tuple[TenantId, TenantId], float], origin_ms: int) -> None:
        """Go on from what was used before."""
        self.use, self.origin_ms = dict(use), origin_ms
        self._used_at = {}
        self._weighed.clear()
        for site, tenant in use:
            self._used_at.setdefault(tenant, set()).add(site)

    def rebase(self, now_ms: int, *, idle: bool) -> bool:
        """Move the origin of the use on if that is due; tell whether it moved."""
        if not self.use or not usage.is_due(self.policy, self.origin_ms, now_ms, idle=idle):
            return False
        self.use, self.origin_ms = usage.rebased(self.use, self.policy, self.origin_ms, now_ms, idle=idle)
        self._weighed.clear()
        return True

    def hold(self, lease: Lease, sign: int = 1) -> None:
        """Count a lease among what its tenant holds (``sign`` -1: no more)."""
        mine = self.leases.setdefault(lease.tenant, {})
        if sign > 0:
            mine[lease.ask, lease.node] = lease
        else:
            del mine[lease.ask, lease.node]
        self._count(lease.site, lease.tenant, lease.need, sign)

    def start(self, leases: list[Lease]) -> None:
        """Count the leases of one ask that start, and book their expected cost."""
        self.origin_ms = usage.first_origin(self.use, self.policy, self.origin_ms, leases[0].start_ms)
        tenant, cost = leases[0].tenant, usage.cost(self.policy, self.origin_ms, leases[0])
        mine, used = self.leases.setdefault(tenant, {}), self._used_at.setdefault(tenant, set())
        sites: dict[TenantId, int] = {}
        self._weighed.pop(tenant, None)
        use = self.use
        for lease in leases:
            site = lease.site
            mine[lease.ask, lease.node] = lease
            sites[site] = sites.get(site, 0) + 1
            pair = (site, tenant)
            use[pair] = use.get(pair, 0.0) + cost
        for site, tasks in sites.items():
            used.add(site)
            self._count(site, tenant, leases[0].need, tasks)

    def settle(self, lease: Lease, end_ms: int) -> None:
        """Replace the expected cost of a lease by the true one."""
        self._weighed.pop(lease.tenant, None)
        self._used_at.setdefault(lease.tenant, set()).add(lease.site)
        self.origin_ms = usage.first_origin(self.use, self.policy, self.origin_ms, lease.start_ms)
        usage.settle(self.use, self.policy, self.origin_ms, lease, end_ms)

    def welcome(self, site: TenantId, tenant: TenantId, active: Sequence[tuple[TenantId, int]]) -> None:
        """Let a tenant that comes back to a site start level with the least of the active ones there."""
        self._weighed.pop(tenant, None)
        self._used_at.setdefault(tenant, set()).add(site)
        usage.welcome(self.use, site, tenant, self.weight(site, tenant), active)

    def weight(self, site: TenantId, tenant: TenantId) -> int:
        """Return the tenant's weight at the site."""
        grant = self.grants.get(tenant, {}).get(site)
        return 1 if grant is None else grant.weight

    def share(self, tenant: TenantId, sites: Sites) -> float:
        """Return what the tenant has used, by weight, at all of ``sites`` together."""
        used = self._used_at.get(tenant)
        if not used or not self.policy.fair:
            return 0.0
        known = self._weighed.get(tenant)
        if known is None:
            use, grants = self.use, self.grants.get(tenant, {})
            weighed = {site: use.get((site, tenant), 0.0) for site in used}
            for site in grants.keys() & used:
                weighed[site] /= grants[site].weight
            known = self._weighed[tenant] = (weighed, math.fsum(weighed.values()))
        weighed, in_all = known
        if weighed.keys() <= sites.keys():
            return in_all
        return math.fsum([amount for site, amount in weighed.items() if site in sites])

    def limit_rooms(self, tenant: TenantId, sites: Sites, need: Need) -> Rooms:
        """Return how many more tasks the limits admit; a site that is not named is not bound."""
        return {site: limit for site, limit, _ in self._bounds(tenant, need) if site in sites}

    def guarantee_rooms(self, tenant: TenantId, sites: Sites, need: Need) -> Rooms:
        """Return how many more tasks are guaranteed; at a site that is not named none are."""
        bounds = self._bounds(tenant, need)
        return {site: guarantee for site, _, guarantee in bounds if guarantee and site in sites}

    def claim(self, tenant: TenantId, sites: Sites, need: Need) -> tuple[int, int]:
        """Return how many tasks are guaranteed and how many nodes are barred, if every node of ``sites`` is free."""
        guaranteed = barred = 0
        for site, limit, guarantee in self._bounds(tenant, need):
            there = sites.get(site, 0)
            guaranteed += min(there, guarantee)
            if limit < there:
                barred += there - limit
        return guaranteed, barred

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

    def _count(self, site: TenantId, tenant: TenantId, need: Need, tasks: int) -> None:
        mine = self.held.get(tenant)
        if mine is None:
            mine = self.held[tenant] = {}
        held = mine.get(site)
        if held is None:
            held = mine[site] = Counter()
        for part, each in parts(need):
            held[part] = held.get(part, 0) + tasks * each
        if site in self.grants.get(tenant, ()):
            for known in self._rooms.get(tenant, {}).values():
                known.pop(site, None)

    def _bounds(self, tenant: TenantId, need: Need) -> Iterable[tuple[TenantId, int, int]]:
        """Return site, limit and guarantee, in tasks, where the tenant has a grant."""
        grants = self.grants.get(tenant)
        if not grants:
            return ()
        known = self._rooms.get(tenant, _NONE_KNOWN).get(need)
        if known is None:
            known = self._rooms.setdefault(tenant, {}).setdefault(need, {})
        if len(known) < len(grants):
            for site in grants.keys() - known.keys():
                grant, held = grants[site], self._held(site, tenant)
                known[site] = (site, limit_room(grant, held, need), guarantee_room(grant, held, need))
        return known.values()

    def _forget(self, site: TenantId, tenant: TenantId) -> None:
        self._weighed.pop(tenant, None)
        for known in self._rooms.get(tenant, {}).values():
            known.pop(site, None)

    def _held(self, site: TenantId, tenant: TenantId) -> Held:
        return self.held.get(tenant, {}).get(site, _NOTHING)


_NOTHING: Held = Counter()
_NONE_KNOWN: Mapping[Need, dict[TenantId, tuple[TenantId, int, int]]] = {}


def most(rooms: Mapping[TenantId, int], sites: Sites) -> int:
    """Return how many tasks fit in ``rooms`` if all nodes were free; a site without a room is not bound."""
    return sum(sites.values()) - sum(max(0, sites[site] - room) for site, room in rooms.items())
