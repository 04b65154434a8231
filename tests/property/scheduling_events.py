"""Random events for the scheduler: nodes, grants, asks and leases that come, change and go, hostile numbers included."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from common.ids import JobId, NodeId, TenantId
from coordinator.domain.quotas import Amount, Grant
from coordinator.scheduling.planner import Planner
from coordinator.scheduling.policies import named
from coordinator.scheduling.records import Ask, Device, Need, Node, Policy, Wait
from tests.property.scheduling_audit import Auditor, placeable

NEEDS = (
    Need(),
    Need("cuda", 1000, 0, 1000, 0),
    Need("cuda", 300, 5_000, 500, 1_000),
    Need("cuda", 500, 0, 0, 0),
    Need("cuda", 600, 0, 0, 1_500),
    Need("cuda", 2000, 0, 1000, 0),
    Need("rocm", 1000, 16_000, 1000, 0),
    Need("", 0, 0, 3000, 1_000),
)
SITES = 3


def any_policy(chance: random.Random) -> Policy:
    name = chance.choice(("fcfs", "sjf", "priority", "fair", "fair"))
    starts = {"high": chance.choice((100.0, math.inf)), "low": -100.0} if name == "priority" else None
    policy = named(name, half_life_s=chance.choice((None, 0.05, 1.0)), head_starts=starts)
    return replace(policy, reservations=chance.choice((0, 1, 1, 2, 4)))


def any_node(chance: random.Random, i: int) -> Node:
    kinds = ("cuda", "cuda", "rocm")
    count = chance.choice((0, 1, 1, 2, 4))
    devices = tuple(Device(f"g{i}-{j}", chance.choice(kinds), chance.choice((0, 16_000, 80_000))) for j in range(count))
    return Node(
        NodeId(f"n{i:02d}"), TenantId(f"s{chance.randrange(SITES)}"), chance.choice((2_000, 8_000)),
        chance.choice((2_000, 4_000, 64_000)), chance.choice((1, 1, 2, 4)), devices,
        frozenset(chance.sample(("x", "y"), chance.randrange(3))), chance.choice((0.5, 1.0, 1.0, 2.0)),
    )  # fmt: skip


def any_ask(chance: random.Random, i: int, tenant: str, now_ms: int, nodes: int) -> Ask:
    m = chance.choice((1, 1, 1, 2, 2, 3, 4))
    candidates = None
    if chance.random() < 0.4:
        names = [NodeId(f"n{k:02d}") for k in range(nodes + 2)]
        candidates = tuple(sorted(chance.sample(names, min(len(names), m + chance.randrange(4)))))
    return Ask(
        f"a{i}", JobId(f"j{i}"), TenantId(tenant), chance.choice(NEEDS), m, m + chance.choice((0, 0, 1, 2)),
        chance.choice((0, 1, 5, 50, 1 << 50)), chance.choice((10, 50, 50, 200)), now_ms - chance.randrange(100),
        chance.choice((0, 10, 1000, 1 << 50)), candidates, frozenset(chance.sample(("x", "y"), chance.choice((0, 0, 0, 1)))),
        chance.choice(("normal", "normal", "high", "low", "unheard of")),
    )  # fmt: skip


def any_amount(chance: random.Random) -> Amount:
    milli = {"cuda": chance.choice((0, 500, 1000, 2000, 4000))} if chance.random() < 0.8 else {}
    mib = {"cuda": chance.choice((10_000, 40_000))} if chance.random() < 0.2 else {}
    return Amount(milli, mib, chance.choice((None, None, 0, 4_000, 16_000)), chance.choice((None, None, 64_000)))


class Mayhem:
    """A small world in which anything happens, watched by an auditor."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.planner = Planner(any_policy(self.chance))
        self.auditor = Auditor()
        self.now_ms = self.events = self._asks = 0
        self._nodes = self.chance.choice((2, 4, 8))
        self._tenants = [f"t{k}" for k in range(self.chance.choice((1, 2, 4)))]
        for i in range(self._nodes):
            self._put(any_node(self.chance, i))

    def step(self) -> None:
        """Let one event happen, decide, and audit."""
        act = self.chance.choices(
            (self._ask, self._come, self._go, self._grant, self._revoke, self._end, self._withdraw, self._pass),
            (45, 4, 4, 6, 2, 12, 4, 23),
        )[0]
        act()
        self.events += 1
        self.decide()

    def decide(self) -> None:
        decisions = self.planner.decide(self.now_ms)
        self.auditor.see(decisions, self.now_ms)
        if self.events % 16 == 0:
            self._settled(decisions)
        if self.events % 64 == 0:
            self._nothing_idle(decisions)

    def _settled(self, decisions) -> None:
        again = self.planner.decide(self.now_ms)
        waits = tuple(one for one in decisions if isinstance(one, Wait))
        self.auditor._check(again == waits, "a second decision that does something")

    def _nothing_idle(self, decisions) -> None:
        """An ask that fits now is held back by a reservation, or by an older ask of its tenant that waits for a limit."""
        kept = [one.not_before_ms for one in decisions if isinstance(one, Wait)]
        for ask in self.auditor.asks.values():
            limited = any(tenant == ask.tenant for _, tenant in self.auditor.grants)
            late = any(self.now_ms + ask.bound_ms > at_ms for at_ms in kept)
            if not late and not limited:
                self.auditor._check(not placeable(self.auditor, ask), "an ask that fits and waits")

    def _ask(self) -> None:
        ask = any_ask(self.chance, self._asks, self.chance.choice(self._tenants), self.now_ms, self._nodes)
        self._asks += 1
        self.auditor.asks[ask.id] = ask
        self.planner.add(ask, back=self.chance.random() < 0.5)

    def _come(self) -> None:
        self._put(any_node(self.chance, self.chance.randrange(self._nodes)))

    def _put(self, node: Node) -> None:
        self.auditor.nodes[node.id] = node
        self.planner.put_node(node)

    def _go(self) -> None:
        node = NodeId(f"n{self.chance.randrange(self._nodes):02d}")
        self.auditor.nodes.pop(node, None)
        self.planner.remove_node(node)

    def _grant(self) -> None:
        site, tenant = TenantId(f"s{self.chance.randrange(SITES)}"), TenantId(self.chance.choice(self._tenants))
        weight = self.chance.choice((1, 1, 2, 5))
        grant = Grant(site, tenant, any_amount(self.chance), any_amount(self.chance), weight)
        self.auditor.grants[site, tenant] = grant
        self.planner.put_grant(grant)

    def _revoke(self) -> None:
        if self.auditor.grants:
            site, tenant = self.chance.choice(sorted(self.auditor.grants))
            del self.auditor.grants[site, tenant]
            self.planner.remove_grant(site, tenant)

    def _end(self) -> None:
        if self.auditor.leases:
            ask, node = self.chance.choice(sorted(self.auditor.leases))
            self.auditor.end(ask, node)
            self.planner.end(ask, node, self.now_ms)

    def _withdraw(self) -> None:
        if self.auditor.asks:
            ask = self.chance.choice(sorted(self.auditor.asks))
            del self.auditor.asks[ask]
            self.planner.withdraw(ask)

    def _pass(self) -> None:
        """Let time pass, with a decision whenever a lease runs out, as the service does."""
        until = self.now_ms + self.chance.choice((1, 5, 20, 60, 1000))
        while (end := self.planner.next_event_ms()) is not None and end < until:
            self.now_ms = max(self.now_ms, end)
            self.decide()
        self.now_ms = until


def mayhem(events: int, seed: int = 0, episode: int = 400) -> tuple[int, list[str]]:
    """Let ``events`` random events happen in many small worlds; return how many did, and the violations."""
    done, violations = 0, []
    while done < events:
        world = Mayhem(seed)
        for _ in range(min(episode, events - done)):
            world.step()
        done += world.events
        violations += [f"seed {seed}: {what}" for what in world.auditor.violations]
        seed += 1
    return done, violations
