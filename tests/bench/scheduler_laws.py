"""The scheduler's laws over many random events, and how long its passes take."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from common.ids import JobId, NodeId, TenantId
from coordinator.domain.quotas import Amount, Grant
from coordinator.scheduling.decide import decide
from coordinator.scheduling.planner import Planner
from coordinator.scheduling.policies import named
from coordinator.scheduling.records import Ask, Device, Need, Node, Start, State

NEEDS = (
    (60, Need("cuda", 1000, 0, 4000, 16_000)),
    (12, Need("cuda", 500, 20_000, 2000, 8_000)),
    (10, Need("cuda", 2000, 0, 8000, 32_000)),
    (8, Need("cuda", 1000, 40_000, 8_000, 32_000)),
    (10, Need("", 0, 0, 2000, 4_000)),
)


def crowd(scale: float, seed: int = 1, policy: str = "fair") -> State:
    """Return 10,000 nodes, 1,000 tenants and 10,000 asks, times ``scale``; nothing runs yet."""
    chance = random.Random(seed)
    nodes, tenants, asks, sites = int(10_000 * scale), int(1_000 * scale), int(10_000 * scale), max(2, int(50 * scale))
    return State(
        named(policy),
        tuple(_node(i, sites, chance) for i in range(nodes)),
        tuple(_ask(i, tenants, nodes, chance) for i in range(asks)),
        (),
        tuple(_grants(tenants, sites, chance)),
    )


def _node(i: int, sites: int, chance: random.Random) -> Node:
    gpus = chance.choice((0, 1, 1, 1, 1, 1, 1, 2))
    devices = tuple(Device(f"n{i}-{g}", "cuda", 80_000) for g in range(gpus))
    return Node(
        NodeId(f"n{i:06d}"), TenantId(f"s{i % sites}"), 16_000 * max(1, gpus), 64_000 * max(1, gpus), max(1, gpus),
        devices, frozenset({"eu"} if i % 3 else {"us"}), chance.choice((1.0, 1.5, 2.0)),
    )  # fmt: skip


def _ask(i: int, tenants: int, nodes: int, chance: random.Random) -> Ask:
    need = chance.choices([need for _, need in NEEDS], [often for often, _ in NEEDS])[0]
    m = chance.choice((4, 8, 8, 16))
    roster = None
    if chance.random() < 0.2:
        roster = tuple(sorted(NodeId(f"n{n:06d}") for n in chance.sample(range(nodes), min(nodes, 4 * m))))
    bound = chance.choice((300_000, 1_800_000, 3_600_000))
    return Ask(
        f"a{i:06d}", JobId(f"j{i}"), TenantId(f"t{i % tenants}"), need, m, m + m // 4, bound // 2, bound,
        chance.randrange(10_000_000), chance.randrange(100_000_000), roster,
        frozenset({"eu"}) if chance.random() < 0.1 else frozenset(), "normal",
    )  # fmt: skip


def _grants(tenants: int, sites: int, chance: random.Random) -> Iterator[Grant]:
    for tenant in range(tenants):
        for site in chance.sample(range(sites), 2):
            guarantee = Amount({"cuda": chance.choice((1000, 4000, 8000))})
            limit = Amount({"cuda": chance.choice((16_000, 64_000))})
            yield Grant(TenantId(f"s{site}"), TenantId(f"t{tenant}"), guarantee, limit, chance.choice((1, 1, 2, 4)))


def pass_times(scale: float = 1.0, events: int = 50) -> dict[str, float]:
    """Return milliseconds of: a full pass, the median and the worst pass after one event, and ``decide`` from scratch."""
    state = crowd(scale)
    clock = time.process_time
    start = clock()
    decide(state, 10_000_000)
    cold = clock() - start
    planner = Planner.of(state)
    start = clock()
    decisions = planner.decide(10_000_000)
    full = clock() - start
    leases = [lease for decision in decisions if isinstance(decision, Start) for lease in decision.leases]
    chance, times = random.Random(2), []
    for i, lease in enumerate(chance.sample(leases, min(events, len(leases)))):
        start = clock()
        planner.end(lease.ask, lease.node, 10_000_000 + i)
        planner.decide(10_000_000 + i)
        times.append(clock() - start)
    times.sort()
    return {
        "full_ms": full * 1000,
        "event_ms": times[len(times) // 2] * 1000,
        "event_worst_ms": times[-1] * 1000,
        "cold_ms": cold * 1000,
        "leases": len(leases),
        "started": sum(isinstance(decision, Start) for decision in decisions),
        "waiting": len(planner.state().asks),
    }
