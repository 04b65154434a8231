"""The scheduler's laws over many random events, and how long its passes take."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from common.ids import JobId, NodeId, TenantId
from coordinator.domain.quotas import Amount, Grant
from coordinator.scheduling.decide import decide
from coordinator.scheduling.planner import Planner
from coordinator.scheduling.policies import named
from coordinator.scheduling.records import Ask, Device, Need, Node, Start, State
from tests.property.scheduling_events import mayhem

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


def pass_times() -> dict[str, float]:
    """Return the milliseconds of passes at full size, at a tenth and at ten times of it."""
    full, tenth = passes(1.0, repeats=3), passes(0.1, repeats=5)
    tenfold = passes(10.0, repeats=1, events=5)
    return {
        "pass_full_ms": full["full_ms"],
        "pass_event_ms": full["event_ms"],
        "pass_full_ms_tenth": tenth["full_ms"],
        "pass_full_ms_tenfold": tenfold["full_ms"],
        "pass_event_ms_tenth": tenth["event_ms"],
        "pass_event_ms_tenfold": tenfold["event_ms"],
        "pass_event_ms_worst": full["event_worst_ms"],
        "pass_from_scratch_ms": full["cold_ms"],
        "leases_granted": full["leases"],
        "cohorts_started": full["started"],
    }


def passes(scale: float, repeats: int, events: int = 50) -> dict[str, float]:
    """Return milliseconds of a full pass (the best of some), of passes after one event, and of ``decide`` from scratch."""
    state, clock, full, now_ms = crowd(scale), time.perf_counter, math.inf, 10_000_000
    start = clock()
    decide(state, now_ms)
    cold = clock() - start
    for _ in range(repeats):
        planner = Planner.of(state)
        start = clock()
        decisions = planner.decide(now_ms)
        full = min(full, clock() - start)
    leases = [lease for decision in decisions if isinstance(decision, Start) for lease in decision.leases]
    chance, times = random.Random(2), []
    for i, lease in enumerate(chance.sample(leases, min(events, len(leases)))):
        start = clock()
        planner.end(lease.ask, lease.node, now_ms + i)
        planner.decide(now_ms + i)
        times.append(clock() - start)
    times.sort()
    return {
        "full_ms": full * 1000,
        "event_ms": times[len(times) // 2] * 1000,
        "event_worst_ms": times[-1] * 1000,
        "cold_ms": cold * 1000,
        "leases": len(leases),
        "started": sum(isinstance(decision, Start) for decision in decisions),
    }


def run_laws(events: int, workers: int = 2) -> dict[str, object]:
    """Let random events happen under an auditor; return how many did, and how often a law was broken."""
    parts = 4 * workers
    with ProcessPoolExecutor(workers) as pool:
        found = list(pool.map(mayhem, [-(-events // parts)] * parts, range(0, parts * 1_000_000, 1_000_000)))
    violations = [what for _, part in found for what in part]
    return {"events": sum(done for done, _ in found), "violations": len(violations), "first_violations": violations[:5]}
