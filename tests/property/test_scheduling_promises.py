"""What the policies promise, each against exact arithmetic: order, optimum, shares, reservations, bounds."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.ids import JobId, NodeId, TenantId
from coordinator.domain.quotas import Amount, Grant
from coordinator.scheduling.decide import decide
from coordinator.scheduling.planner import Planner
from coordinator.scheduling.policies import named, slack
from coordinator.scheduling.records import Ask, Device, Need, Node, Start, State, Wait
from tests.property.scheduling_events import any_ask

GPU = Need("cuda", 1000, 0, 0, 0)


def pool(count: int, site: str = "s") -> tuple[Node, ...]:
    width = len(str(count))
    return tuple(
        Node(NodeId(f"n{i:0{width}d}"), TenantId(site), 0, 0, 1, (Device(f"g{i}", "cuda", 80_000),))
        for i in range(count)
    )


def an_ask(
    name: str, tenant: str = "t", m: int = 1, est: int = 100, bound: int = 100, submit: int = 0, left: int = 100, **more
) -> Ask:
    return Ask(name, JobId(name), TenantId(tenant), GPU, m, more.pop("n", m), est, bound, submit, left, **more)


def started(decisions) -> list[str]:
    return [decision.ask.id for decision in decisions if isinstance(decision, Start)]


def drive(planner: Planner, until_ms: int) -> dict[str, int]:
    """Decide whenever a lease runs out, until nothing runs any more; return when each ask started."""
    now, starts = 0, {}
    while now <= until_ms:
        starts |= dict.fromkeys(started(planner.decide(now)), now)
        following = planner.next_event_ms()
        if following is None:
            break
        now = following
    return starts


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 40), st.integers(1, 500)), min_size=1, max_size=12))
def test_first_come_first_served_on_one_gpu_is_exactly_the_order_of_submission(jobs):
    planner = Planner(named("fcfs"))
    planner.put_node(pool(1)[0])
    for i, (submit, length, left) in enumerate(jobs):
        planner.add(an_ask(f"a{i:02d}", submit=submit, est=length, bound=length, left=left))
    starts = drive(planner, 10_000)
    order = sorted(range(len(jobs)), key=lambda i: (jobs[i][0], f"a{i:02d}"))
    assert sorted(starts, key=starts.__getitem__) == [f"a{i:02d}" for i in order]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6))
def test_shortest_first_on_one_gpu_is_the_exact_optimum(lengths):

    planner = Planner(named("sjf"))
    planner.put_node(pool(1)[0])
    for i, length in enumerate(lengths):
        planner.add(an_ask(f"a{i}", est=length, bound=length, left=length))
    starts = drive(planner, 10_000)

    def total(order) -> int:
        done = whole = 0
        for i in order:
            done += lengths[i]
            whole += done
        return whole

    mine = sum(starts[f"a{i}"] + length for i, length in enumerate(lengths))
    assert mine == min(total(order) for order in permutations(range(len(lengths))))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(1, 24))
def test_fair_shares_of_equal_weights_are_progressive_filling(demands, gpus):
    planner = Planner(named("fair"))
    for node in pool(gpus):
        planner.put_node(node)
    for tenant, demand in enumerate(demands):
        for i in range(demand):
            planner.add(an_ask(f"t{tenant}-{i:02d}", tenant=f"t{tenant}"))
    got = [0] * len(demands)
    for name in started(planner.decide(0)):
        got[int(name[1 : name.index("-")])] += 1
    filled, left = [0] * len(demands), gpus
    while left and any(f < d for f, d in zip(filled, demands, strict=True)):  # one at a time, to whoever has least
        least = min((f, t) for t, (f, d) in enumerate(zip(filled, demands, strict=True)) if f < d)[1]
        filled[least] += 1
        left -= 1
    assert got == filled


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_a_larger_weight_never_gets_a_tenant_less(seed, more):
    chance = random.Random(seed)
    asks = [an_ask(f"a{i:02d}", tenant=chance.choice("abc"), m=chance.choice((1, 1, 2))) for i in range(30)]

    def served(weight: int) -> int:
        state = State(named("fair"), pool(8), tuple(asks), (), (Grant(TenantId("s"), TenantId("a"), weight=weight),))
        return sum(len(d.leases) for d in decide(state, 0) if isinstance(d, Start) and d.ask.tenant == "a")

    assert served(1 + more) >= served(1) - 1  # a gang of two may not fit in what is left


@pytest.mark.parametrize("policy", ["fcfs", "sjf"])
def test_nodes_kept_for_the_first_that_waits_are_had_no_later_than_promised(policy):
    promises = 0
    for seed in range(12):
        chance, planner, now = random.Random(seed), Planner(named(policy)), 0
        for node in pool(6):
            planner.put_node(node)
        promise: tuple[tuple, str, int] | None = None
        for i in range(60):
            ask = an_ask(
                f"a{i:02d}",
                tenant=chance.choice("ab"),
                m=chance.choice((1, 1, 2, 4, 6)),
                bound=chance.choice((10, 40, 90)),
                submit=now,
                left=chance.choice((5, 50)),
            )
            planner.add(ask)
            key = (slack(named(policy), ask), ask.submit_ms, ask.id)
            if promise is not None and key < promise[0]:
                promise = None  # it goes first by right
            until = now + chance.choice((0, 3, 30))
            while True:
                decisions = planner.decide(now)
                if promise is not None:
                    assert promise[1] in started(decisions) or now < promise[2]
                waits = [one for one in decisions if isinstance(one, Wait)]
                if waits and (promise is None or promise[1] in started(decisions)):
                    promises += 1
                    first = next(one for one in planner.state().asks if one.id == waits[0].ask)
                    promise = (
                        (slack(named(policy), first), first.submit_ms, first.id),
                        first.id,
                        waits[0].not_before_ms,
                    )
                elif not waits:
                    promise = None
                leases = planner.state().leases
                if leases and chance.random() < 0.2:  # some end early
                    one = chance.choice(leases)
                    planner.end(one.ask, one.node, now)
                following = planner.next_event_ms()
                if following is None or following > until:
                    break
                now = max(now, following)
            now = until
    assert promises > 60


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_another_node_never_puts_off_the_first_that_waits(seed):
    chance = random.Random(seed)
    planner = Planner(named("fcfs"))
    for node in pool(5):
        planner.put_node(node)
    for i in range(12):
        planner.add(an_ask(f"a{i:02d}", m=chance.randint(1, 5), bound=chance.choice((10, 40, 90)), submit=i))
    state = planner.state()
    fewer, more = (
        Planner.of(state),
        Planner.of(replace(state, nodes=(*pool(6)[:5], replace(pool(6)[5], id=NodeId("z"))))),
    )
    one, other = drive(fewer, 10_000), drive(more, 10_000)
    first = next(name for name in sorted(one) if one[name] > 0) if any(one.values()) else None
    assert first is None or other[first] <= one[first]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_who_the_tenants_are_changes_nothing(seed):
    chance = random.Random(seed)
    asks = tuple(any_ask(chance, i, chance.choice("abc"), 0, 6) for i in range(15))
    asks = tuple(replace(ask, candidates=None, labels=frozenset(), need=GPU) for ask in asks)
    use = {(TenantId("s"), TenantId(t)): float(chance.randrange(100)) for t in "abc"}
    state = State(named("fair"), pool(6), asks, (), (), use)
    other = dict(zip("abc", chance.sample("xyz", 3), strict=True))
    renamed = replace(
        state,
        asks=tuple(replace(ask, tenant=TenantId(other[ask.tenant])) for ask in asks),
        use={(site, TenantId(other[tenant])): value for (site, tenant), value in use.items()},
    )
    assert started(decide(state, 0)) == started(decide(renamed, 0))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_pools_that_nobody_shares_do_not_feel_each_other(seed):
    chance = random.Random(seed)
    parts = []
    for site in ("p", "q"):
        nodes = tuple(replace(node, id=NodeId(f"{site}-{node.id}"), site=TenantId(site)) for node in pool(4))
        names = tuple(node.id for node in nodes)
        asks = tuple(
            an_ask(
                f"{site}{i}",
                tenant=f"{site}-{chance.choice('ab')}",
                m=chance.randint(1, 4),
                bound=chance.choice((10, 90)),
                submit=i,
                candidates=names,
            )
            for i in range(8)
        )
        parts.append(State(named("fair"), nodes, asks))
    both = replace(parts[0], nodes=parts[0].nodes + parts[1].nodes, asks=parts[0].asks + parts[1].asks)
    together = set(decide(both, 0))
    assert together == set(decide(parts[0], 0)) | set(decide(parts[1], 0))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(("sjf", "priority")))
def test_nobody_is_overtaken_by_more_than_its_size_and_the_head_starts(seed, name):
    chance, policy = random.Random(seed), named(name)
    asks = [
        an_ask(
            f"a{i:02d}",
            submit=chance.randrange(10**8),
            left=chance.choice((0, 10**6, 1 << 50)),
            klass=chance.choice(("low", "normal", "high")),
        )
        for i in range(20)
    ]
    starts = list(drive_one_by_one(policy, asks))
    head = policy.head_start_ms
    for place, ask in enumerate(starts):
        for late in starts[place + 1 :]:
            bound = policy.k * late.left_ms + head.get(ask.klass, 0.0) - head.get(late.klass, 0.0)
            assert ask.submit_ms <= late.submit_ms + bound


def drive_one_by_one(policy, asks) -> list[Ask]:
    planner = Planner(policy)
    planner.put_node(pool(1)[0])
    for ask in asks:
        planner.add(ask)
    starts, by_id = drive(planner, 10**9), {ask.id: ask for ask in asks}
    return [by_id[name] for name in sorted(starts, key=starts.__getitem__)]


def test_what_is_guaranteed_is_had_by_the_end_of_the_longest_lease_in_its_way():
    for seed in range(8):
        chance, now = random.Random(seed), 0
        planner = Planner(named("fair"))
        for node in pool(6):
            planner.put_node(node)
        planner.put_grant(Grant(TenantId("s"), TenantId("owner"), Amount({"cuda": 3000})))
        for i in range(60):
            planner.add(
                an_ask(
                    f"b{i:02d}",
                    tenant=chance.choice("xyz"),
                    m=chance.choice((1, 1, 2, 4)),
                    bound=chance.choice((10, 40, 90)),
                )
            )
        now = drive_until(planner, chance.randrange(200))
        longest = max((lease.until_ms for lease in planner.state().leases), default=now)
        planner.add(an_ask("mine", tenant="owner", m=3, submit=now, bound=50))
        starts = {}
        while "mine" not in starts:
            starts |= dict.fromkeys(started(planner.decide(now)), now)
            now = planner.next_event_ms() if "mine" not in starts else now
        assert starts["mine"] <= longest


def drive_until(planner: Planner, until_ms: int) -> int:
    now = 0
    while True:
        planner.decide(now)
        following = planner.next_event_ms()
        if following is None or following > until_ms:
            return now
        now = following
