"""The decision as its definition reads: every ask, every node, again and again; slow, and the same byte for byte.

Asks are taken in the order of their key.  One that fits starts; the first that does not gets a reservation, and what
comes after it may only take what delays nobody.  Repeated until nothing more starts.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from common.ids import NodeId, TenantId
from coordinator.scheduling.policies import slack
from coordinator.scheduling.quota import guarantee_room, limit_room, parts
from coordinator.scheduling.records import (
    Ask,
    Decision,
    Expire,
    Lease,
    Need,
    Node,
    Slice,
    Start,
    State,
    Wait,
)
from tests.property.scheduling_machine import Free, after, both, place
from tests.property.scheduling_reference_world import Key, Reservation, Shape, World, able, expected_ms, scarcity, shape


@dataclass(slots=True)
class Pass:
    """One walk over the asks in order."""

    w: World
    places: dict[NodeId, tuple]
    reserved: list[Reservation] = field(default_factory=list)
    demoted: set[tuple[TenantId, Shape]] = field(default_factory=set)

    def room(self, ask: Ask, site: TenantId, end_ms: int) -> int:
        """Tasks the tenant may still have at the site, beside what its reserved asks will hold."""
        held = Counter(self.w.held[site, ask.tenant])
        for r in self.reserved:
            if r.ask.tenant == ask.tenant and r.at_ms < end_ms:
                for part, each in parts(r.ask.need):
                    held[part] += each * r.sites[site]
        return limit_room(self.w.grant(site, ask.tenant), held, ask.need)

    def rooms(self, ask: Ask, key: Key) -> dict[TenantId, int]:
        end_ms = self.w.now_ms + ask.bound_ms
        sites = {node.site for node in able(self.w, ask)}
        if key[0] == 0:
            return {site: self.guaranteed(ask, site) for site in sites}
        rooms = {site: self.room(ask, site, end_ms) for site in sites}
        older = self.stopped(ask, key) if key[0] == 2 else None
        if older is not None:
            count = Counter(node.site for node in able(self.w, older))
            if end_ms > self.quota_at(older, count):
                rooms |= {site: 0 for site in count if site in rooms}
        return rooms

    def stopped(self, ask: Ask, key: Key) -> Ask | None:
        mine = sorted((self.key(o), o.id) for o in self.w.asks.values() if o.tenant == ask.tenant)
        for its, other in mine:
            if its < key and self.is_stopped(self.w.asks[other]):
                return self.w.asks[other]
        return None

    def is_stopped(self, ask: Ask) -> bool:
        count = Counter(node.site for node in able(self.w, ask))

        def total(held) -> int:
            rooms = {s: limit_room(self.w.grant(s, ask.tenant), held(s), ask.need) for s in count}
            return sum(min(rooms[s], count[s]) for s in count)

        return total(lambda s: self.w.held[s, ask.tenant]) < ask.m <= total(lambda s: Counter())

    def guaranteed(self, ask: Ask, site: TenantId) -> int:
        return guarantee_room(self.w.grant(site, ask.tenant), self.w.held[site, ask.tenant], ask.need)

    def key(self, ask: Ask) -> Key:
        nodes = Counter(node.site for node in able(self.w, ask))
        inside = sum(min(count, self.guaranteed(ask, site)) for site, count in nodes.items()) >= ask.m
        rank = (1 if (ask.tenant, shape(ask)) in self.demoted else 0) if inside else 2
        share = 0.0
        if self.w.state.policy.fair:
            share = math.fsum(
                self.w.use.get((site, ask.tenant), 0.0) / (g.weight if (g := self.w.grant(site, ask.tenant)) else 1)
                for site in sorted(nodes)
            )
        return (rank, share, slack(self.w.state.policy, ask), ask.submit_ms, ask.id)

    def usable(self, ask: Ask) -> list[tuple[Node, tuple[Slice, ...]]]:
        """Nodes that have the ask's need free for as long as its bound, best first."""
        found = []
        for node in able(self.w, ask):
            free = self.w.free[node.id]
            for r in self.reserved:
                if node.id in r.beyond and self.w.now_ms + ask.bound_ms > r.at_ms:
                    free = both(free, r.beyond[node.id])
            slices = place(node, free, ask.need)
            if slices is not None and (ask.id, node.id) not in self.w.leases:
                found.append((node, slices))
        return sorted(found, key=lambda f: self.order(f[0]))

    def order(self, node: Node) -> tuple:
        return self.places[node.id]

    def pick(self, ask: Ask, key: Key, most: int) -> list[Lease]:
        rooms = self.rooms(ask, key)
        inside = {site: self.guaranteed(ask, site) for site in rooms}
        taken: Counter[TenantId] = Counter()
        now, leases = self.w.now_ms, []
        for node, slices in self.usable(ask):
            if len(leases) < most and taken[node.site] < rooms[node.site]:
                taken[node.site] += 1
                beyond = taken[node.site] > inside[node.site]
                leases.append(
                    Lease(ask.id, ask.job, ask.tenant, node.id, node.site, ask.need, slices, now, now + ask.bound_ms,
                          expected_ms(ask), beyond)
                )  # fmt: skip
        return leases

    def take(self, leases: list[Lease]) -> None:
        for lease in leases:
            self.w.give(lease)
            for r in self.reserved:
                if lease.node in r.beyond and lease.until_ms > r.at_ms:
                    r.beyond[lease.node].take(lease.need, lease.slices)

    def block(self, ask: Ask, key: Key) -> Wait | None:
        """Decide what an ask that does not fit holds back: nodes, its own tenant's quota, or nothing."""
        nodes = able(self.w, ask)
        count = Counter(node.site for node in nodes)

        def total(rooms: dict[TenantId, int]) -> int:
            return sum(min(rooms[site], count[site]) for site in count)

        plain = {
            site: limit_room(self.w.grant(site, ask.tenant), self.w.held[site, ask.tenant], ask.need) for site in count
        }
        if total(plain) < ask.m:
            return None
        rooms = self.rooms(ask, key)
        if total(rooms) < ask.m:
            return None
        mine = {node.id for node in nodes}
        if len(self.reserved) >= max(8, self.w.state.policy.reservations):
            return None
        if sum(1 for r in self.reserved if mine & set(r.beyond)) >= self.w.state.policy.reservations:
            return None
        kept = sum(1 for node in mine if any(node in r.beyond for r in self.reserved))
        if kept and 3 * (kept + ask.m) > len(mine):
            return None
        return self.reserve(ask, rooms)

    def quota_at(self, ask: Ask, count: Counter[TenantId]) -> int:
        """When enough of the tenant's own leases have ended for its limit to admit the ask."""
        held = {site: Counter(self.w.held[site, ask.tenant]) for site in count}
        mine = [lease for lease in self.w.leases.values() if lease.tenant == ask.tenant and lease.site in held]
        for lease in sorted(mine, key=lambda x: (x.until_ms, x.ask, x.node)):
            for part, each in parts(lease.need):
                held[lease.site][part] -= each
            rooms = {s: limit_room(self.w.grant(s, ask.tenant), held[s], ask.need) for s in count}
            if sum(min(rooms[s], count[s]) for s in count) >= ask.m:
                return lease.until_ms
        return 1 << 60

    def reserve(self, ask: Ask, rooms: dict[TenantId, int]) -> Wait | None:
        taken_by_others = {node for r in self.reserved for node in r.beyond}
        options = [
            (self.available(node, ask.need), self.order(node), node)
            for node in able(self.w, ask)
            if node.id not in taken_by_others
        ]
        options.sort(key=lambda o: o[:2])

        def first_m(options):
            sites, chosen = Counter(), []
            for at_ms, _, node in options:
                if len(chosen) < ask.m and sites[node.site] < rooms[node.site]:
                    sites[node.site] += 1
                    chosen.append((at_ms, node))
            return sites, chosen

        _, chosen = first_m(options)
        if len(chosen) < ask.m:
            return None
        at_ms = max(at for at, _ in chosen)
        in_time = [o for o in options if o[0] <= at_ms]
        sites, chosen = first_m(sorted(in_time, key=lambda o: (-o[0], o[1])))
        beyond = {}
        for _, node in chosen:
            free = self.free_at(node, at_ms)
            slices = place(node, free, ask.need)
            assert slices is not None
            free.take(ask.need, slices)
            beyond[node.id] = free
        self.reserved.append(Reservation(ask, at_ms, beyond, sites))
        return Wait(ask.id, "reserved", f"{ask.m} nodes are kept for it", at_ms)

    def available(self, node: Node, need: Need) -> int:
        ends = sorted({lease.until_ms for lease in self.w.leases.values() if lease.node == node.id})
        for at_ms in [self.w.now_ms, *ends]:
            if place(node, self.free_at(node, at_ms), need) is not None:
                return at_ms
        raise AssertionError(node)

    def free_at(self, node: Node, at_ms: int) -> Free:
        return after(node, [x for x in self.w.leases.values() if x.node == node.id and x.until_ms > at_ms])


def one_pass(w: World, places, started: dict[str, tuple[Ask, list[Lease], int]]) -> tuple[bool, list[Wait]]:
    p = Pass(w, places)
    queues: dict[tuple[TenantId, Shape], list[Ask]] = defaultdict(list)
    for ask in w.asks.values():
        queues[ask.tenant, shape(ask)].append(ask)
    for queue in queues.values():
        queue.sort(key=lambda a: (slack(w.state.policy, a), a.submit_ms, a.id), reverse=True)
    heap = [(p.key(queue[-1]), name) for name, queue in queues.items()]
    heap = [(key, key[-1], name) for key, name in heap]
    heapq.heapify(heap)
    waits, changed = [], False
    while heap:
        key, _, name = heapq.heappop(heap)
        ask = queues[name][-1]
        if p.key(ask) != key:
            heapq.heappush(heap, (p.key(ask), ask.id, name))
            continue
        leases = p.pick(ask, key, ask.n)
        if len(leases) >= ask.m:
            p.take(leases)
            started[ask.id] = (ask, leases, key)
            changed = True
            queues[name].pop()
            if queues[name]:
                head = queues[name][-1]
                heapq.heappush(heap, (p.key(head), head.id, name))
        elif key[0] == 0:
            p.demoted.add(name)
            heapq.heappush(heap, (p.key(ask), ask.id, name))
        elif (wait := p.block(ask, key)) is not None:
            waits.append(wait)
    if not changed:
        for ask, leases, key in started.values():
            if key[0] == 0 and len(leases) < ask.n:
                more = p.pick(ask, (2, p.key(ask)[1], *key[2:]), ask.n - len(leases))
                p.take(more)
                leases += more
                changed = changed or bool(more)
    return changed, waits


def decide(state: State, now_ms: int) -> tuple[Decision, ...]:
    """Return what to do now: leases that have run out, rounds that start, and the asks that nodes are kept for."""
    w = World(state, now_ms)
    expired = sorted((x for x in w.leases.values() if x.until_ms <= now_ms), key=lambda x: (x.until_ms, x.ask, x.node))
    for lease in expired:
        w.drop(lease, lease.until_ms)
    started: dict[str, tuple[Ask, list[Lease], int]] = {}
    changed, waits = True, []
    worth = scarcity(w)
    places = {n.id: (worth[n.id], w.free[n.id].milli(), -n.speed, n.id) for n in w.nodes.values()}
    while changed:
        changed, waits = one_pass(w, places, started)
    starts = [Start(ask, tuple(leases)) for ask, leases, _ in started.values()]
    return (*(Expire(lease) for lease in expired), *starts, *waits)
