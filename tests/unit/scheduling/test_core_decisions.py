"""What one decision says, case by case: slices, quotas, gangs, reservations, and numbers that make no sense."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from common.errors import BadInput
from common.ids import JobId, NodeId, TenantId
from coordinator.domain.quotas import Amount, Grant
from coordinator.scheduling.decide import apply, decide, end_lease
from coordinator.scheduling.explain import idle, why
from coordinator.scheduling.forecast import MOST_STEPS, forecast, foresee, latest_ms, steps_for
from coordinator.scheduling.planner import Planner
from coordinator.scheduling.policies import ABOUT, NAMES, named
from coordinator.scheduling.records import Ask, Device, Need, Node, Slice, Start, State, Wait
from coordinator.scheduling.usage import price

GPU = Need("cuda", 1000, 0, 0, 0)
HALF = Need("cuda", 500, 0, 0, 0)
FCFS = named("fcfs")


def a_node(name: str, gpus: int = 1, site: str = "s", slots: int = 8, **more) -> Node:
    devices = tuple(Device(f"{name}-{i}", "cuda", 80_000) for i in range(gpus))
    return Node(NodeId(name), TenantId(site), 8_000, 64_000, slots, devices, **more)


def an_ask(
    name: str, need: Need = GPU, m: int = 1, tenant: str = "t", bound: int = 100, submit: int = 0, **more
) -> Ask:
    more = {"n": m, "est_ms": bound, "left_ms": 100} | more
    return Ask(name, JobId(name), TenantId(tenant), need, m, bound_ms=bound, submit_ms=submit, **more)


def starts(decisions) -> dict[str, tuple]:
    return {d.ask.id: d.leases for d in decisions if isinstance(d, Start)}


def a_state(nodes, asks, policy=FCFS, grants=()) -> State:
    return State(policy, tuple(nodes), tuple(asks), (), tuple(grants))


def test_two_halves_share_a_device_before_another_is_broken():
    found = starts(decide(a_state([a_node("n", gpus=2)], [an_ask("a", HALF), an_ask("b", HALF)]), 0))
    assert [lease.slices for leases in found.values() for lease in leases] == [(Slice("n-0", 500, 40_000),)] * 2


def test_whole_devices_bring_all_their_memory():
    (leases,) = starts(decide(a_state([a_node("n", gpus=2)], [an_ask("a", Need("cuda", 2000, 1, 0, 0))]), 0)).values()
    assert leases[0].slices == (Slice("n-0", 1000, 80_000), Slice("n-1", 1000, 80_000))


def test_a_device_that_is_partly_used_is_not_whole():
    state = a_state([a_node("n")], [an_ask("a", HALF), an_ask("b", GPU, submit=1)])
    assert list(starts(decide(state, 0))) == ["a"]


def test_a_device_too_small_for_the_memory_asked_for_is_left_alone():
    small = replace(a_node("n"), devices=(Device("small", "cuda", 8_000), Device("unknown", "cuda", 0)))
    state = a_state([small], [an_ask("a", Need("cuda", 100, 9_000, 0, 0))])
    assert decide(state, 0) == ()
    assert why(state, 0)["a"].code == "never"


def test_a_cohort_starts_with_all_of_m_or_not_at_all():
    assert starts(decide(a_state([a_node("n"), a_node("o")], [an_ask("a", m=3)]), 0)) == {}
    found = starts(decide(a_state([a_node(f"n{i}") for i in range(4)], [an_ask("a", m=2, n=3)]), 0))
    assert len(found["a"]) == 3


def test_a_flexible_ask_leaves_the_node_that_a_picky_one_needs():
    nodes = [a_node("a"), a_node("b")]
    picky = an_ask("picky", submit=1, candidates=(NodeId("a"),))
    found = starts(decide(a_state(nodes, [an_ask("any"), picky]), 0))
    assert found["any"][0].node == "b"
    assert found["picky"][0].node == "a"


def test_a_short_round_may_use_a_node_that_is_kept_and_a_long_one_may_not():
    state = a_state([a_node("a"), a_node("b")], [an_ask("first", bound=100)])
    state = apply(state, decide(state, 0), 0)
    waiting = (an_ask("gang", m=2, submit=1), an_ask("long", bound=200, submit=2), an_ask("short", bound=90, submit=3))
    decisions = decide(replace(state, asks=waiting), 10)
    assert list(starts(decisions)) == ["short"]
    assert [(d.ask, d.not_before_ms) for d in decisions if isinstance(d, Wait)] == [("gang", 100)]


def test_the_nodes_that_come_last_are_kept_and_idle_ones_left_to_others():
    nodes = [a_node(name) for name in "abcd"]
    state = a_state(nodes, [an_ask("busy", m=3, bound=100)])
    state = apply(state, decide(state, 0), 0)
    waiting = (an_ask("gang", m=2, submit=1), an_ask("long", bound=1000, submit=2))
    assert list(starts(decide(replace(state, asks=waiting), 10))) == ["long"]  # the gang has two of the three at 100


def test_what_is_within_the_guarantee_goes_before_what_is_borrowed():
    grants = [Grant(TenantId("s"), TenantId("owner"), Amount({"cuda": 1000}))]
    asks = [
        an_ask("old", tenant="guest"),
        an_ask("mine", tenant="owner", submit=50),
        an_ask("more", tenant="owner", submit=60),
    ]
    found = starts(decide(a_state([a_node("n")], asks, grants=grants), 100))
    assert list(found) == ["mine"]
    assert not found["mine"][0].borrowed
    found = starts(decide(a_state([a_node("n"), a_node("o")], asks, grants=grants), 100))
    assert list(found) == ["mine", "old"]
    assert found["old"][0].borrowed


def test_a_node_is_idle_for_a_limit_that_admits_nothing_and_not_for_want_of_nodes():
    grants = [Grant(TenantId("s"), TenantId("t"), limit=Amount({"cuda": 500}))]
    state = a_state([a_node("n")], [an_ask("a")], grants=grants)
    assert idle(state, 0) == {"n": "the limits of those who could use it are below what they need"}
    assert why(state, 0)["a"].reason.startswith(
        "it needs 1 node, and limits never admit more than 0: s limits t to 0.5 cuda, and one task takes 1 cuda; ask s"
    )


def test_a_limit_holds_whatever_is_idle_and_says_until_when():
    grants = [Grant(TenantId("s"), TenantId("t"), limit=Amount({"cuda": 1000}))]
    state = a_state(
        [a_node("n"), a_node("o")], [an_ask("a"), an_ask("b", submit=1), an_ask("c", m=2, submit=2)], grants=grants
    )
    state = apply(state, decide(state, 0), 0)
    reasons = why(state, 0)
    assert (reasons["b"].code, reasons["b"].not_before_ms) == ("limit", 100)
    assert reasons["c"].code == "never"
    assert reasons["c"].reason == (
        "it needs 2 nodes, and limits never admit more than 1: s limits t to 1 cuda, and one task takes 1 cuda; "
        "ask s (hansa quota set t --site s --limit …)"
    )
    assert idle(state, 0) == {"o": "the limits of those who could use it are reached"}


def test_a_tenants_small_rounds_do_not_starve_its_gang_at_the_limit():
    grants = [Grant(TenantId("s"), TenantId("t"), limit=Amount({"cuda": 2000}))]
    state = a_state([a_node(name) for name in "abcd"], [an_ask("one", bound=100)], grants=grants)
    state = apply(state, decide(state, 0), 0)
    waiting = (an_ask("gang", m=2, submit=1), an_ask("long", bound=200, submit=2), an_ask("short", bound=90, submit=3))
    assert list(starts(decide(replace(state, asks=waiting), 10))) == ["short"]
    assert why(replace(state, asks=waiting[:2]), 10)["long"].code == "behind_own"


def test_a_lost_node_keeps_its_leases_against_the_quota_until_they_end():
    grants = [Grant(TenantId("s"), TenantId("t"), limit=Amount({"cuda": 1000}))]
    planner = Planner.of(a_state([a_node("n"), a_node("o")], [an_ask("a"), an_ask("b", submit=1)], grants=grants))
    (lease,) = starts(planner.decide(0))["a"]
    planner.remove_node(lease.node)
    assert planner.decide(1) == ()
    assert planner.end("a", lease.node, 5) == lease
    assert planner.end("a", lease.node, 5) is None
    assert list(starts(planner.decide(5))) == ["b"]


def test_a_node_that_comes_back_still_holds_its_leases():
    planner = Planner.of(a_state([a_node("n")], [an_ask("a"), an_ask("b", submit=1)]))
    planner.decide(0)
    planner.remove_node(NodeId("n"))
    planner.put_node(a_node("n"))
    assert starts(planner.decide(1)) == {}
    assert list(starts(planner.decide(100))) == ["b"]


def test_candidates_that_are_away_are_waited_for():
    state = a_state([a_node("n")], [an_ask("a", m=2, candidates=(NodeId("gone"), NodeId("n")))])
    assert why(state, 0)["a"].reason == "it needs 2 nodes, and 1 that are there could serve it"
    assert list(starts(decide(replace(state, nodes=(a_node("gone"), a_node("n"))), 0))) == ["a"]


def test_use_is_charged_at_grant_and_settled_with_the_true_time():
    state = a_state([a_node("n")], [an_ask("a", est_ms=60)], named("fair", half_life_s=math.inf))
    state = apply(state, decide(state, 0), 0)
    assert state.use == {("s", "t"): 60_000.0}
    assert end_lease(state, "a", NodeId("n"), 25).use == {("s", "t"): 25_000.0}
    late = apply(state, decide(state, 500), 500)
    assert late.use == {("s", "t"): 100_000.0}  # never more than the lease


@pytest.mark.parametrize(("est", "charged"), [(0, 100), (1 << 50, 100), (7, 7)])
def test_an_estimate_that_makes_no_sense_is_charged_as_the_bound(est, charged):
    (leases,) = starts(decide(a_state([a_node("n")], [an_ask("a", est_ms=est)]), 0)).values()
    assert leases[0].est_ms == charged


def test_a_tenant_that_was_away_starts_level_with_the_least_active_one():
    planner = Planner(named("fair"))
    planner.put_node(a_node("n"))
    planner.restore_use({(TenantId("s"), TenantId("busy")): 900.0}, 0)
    planner.add(an_ask("b1", tenant="busy"))
    planner.add(an_ask("a1", tenant="away"))
    planner.add(an_ask("c1", tenant="steady"), back=False)
    use = planner.state().use
    assert use["s", "away"] == 900.0
    assert ("s", "steady") not in use


@pytest.mark.parametrize(
    "wrong",
    [
        {"m": 3, "n": 2},
        {"m": 0, "n": 2},
        {"bound": 0},
        {"est_ms": -1},
        {"left_ms": -1},
        {"left_ms": 1 << 60},
        {"need": Need("", 0, 0, 0, 0)},
        {"need": Need("", 500)},
        {"need": Need("cuda", 0)},
        {"need": Need("cuda", 1500)},
        {"need": Need("cuda", -1000)},
        {"candidates": (NodeId("n"), NodeId("n"))},
    ],
)
def test_an_ask_that_can_never_mean_anything_is_refused(wrong):
    with pytest.raises(BadInput):
        Planner(FCFS).add(an_ask("a", **wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": math.nan},
        {"k": -1.0},
        {"k": math.inf},
        {"head_starts": {"high": math.nan}},
        {"half_life_s": 0.0},
        {"half_life_s": math.nan},
    ],
)
def test_a_policy_whose_numbers_make_no_order_is_refused(wrong):
    with pytest.raises(BadInput):
        named("fair", **wrong)


def test_there_are_four_policies_and_each_says_what_it_promises():
    assert NAMES == ("fcfs", "sjf", "priority", "fair")
    assert all(about.promise and about.starvation_bound for about in ABOUT.values())
    with pytest.raises(BadInput):
        named("lottery")


def test_an_infinite_head_start_goes_strictly_first_and_among_its_own_by_submission():
    policy = named("priority", head_starts={"urgent": math.inf})
    asks = [an_ask("old"), an_ask("u2", submit=90, klass="urgent"), an_ask("u1", submit=80, klass="urgent")]
    assert list(starts(decide(a_state([a_node("n", gpus=2)], asks, policy), 100))) == ["u1", "u2"]


def test_prices_are_those_of_the_dominant_part():
    assert price(GPU) == price(Need("", 0, 0, 8_000, 0)) == price(Need("", 0, 0, 0, 65_536)) == 1000.0
    assert price(Need("cuda", 500, 0, 16_000, 0)) == 2000.0


def test_a_spare_node_is_borrowed_only_after_everyone_has_what_is_guaranteed():
    grants = [Grant(TenantId("s"), TenantId(name), Amount({"cuda": 1000})) for name in ("a", "b")]
    asks = [an_ask("a", m=1, n=3, tenant="a"), an_ask("b", tenant="b", submit=1)]
    found = starts(decide(a_state([a_node(name) for name in "xyz"], asks, grants=grants), 10))
    assert [lease.borrowed for lease in found["a"]] == [False, True]
    assert len(found["b"]) == 1


def test_a_forecast_follows_the_estimates_and_a_kept_ask_has_a_promise_by_contract_beside_it():
    state = a_state(
        [a_node("n")],
        [an_ask("a", est_ms=40), an_ask("b", submit=1, est_ms=10, left_ms=10), an_ask("c", submit=2, left_ms=10)],
    )
    state = apply(state, decide(state, 0), 0)
    assert forecast(state, 0, 1_000) == {"b": 40, "c": 50}
    assert {name: latest_ms(wait) for name, wait in why(state, 0).items()} == {"b": 100, "c": None}
    assert forecast(state, 0, 45) == {"b": 40, "c": None}
    assert forecast(state, 30, 1_000) == {"b": 40, "c": 50}
    assert forecast(state, 45, 1_000) == {"b": 90, "c": 100}  # it outlived its 40 ms: as long again
    assert forecast(state, 70, 1_000) == {"b": 100, "c": 110}  # but not longer than its contract
    assert forecast(state, 0, 1_000, steps=1) == {"b": 40, "c": 80}  # at the pace so far
    assert forecast(replace(state, asks=(an_ask("d", m=2),)), 0, 1_000) == {"d": None}


def test_a_forecast_makes_fewer_decisions_the_larger_the_state_is():
    def steps(count: int) -> int:
        return steps_for(a_state([a_node("n")], [an_ask(f"a{i}") for i in range(count)]))

    assert steps(1) <= MOST_STEPS
    assert steps(1) > steps(1_000) > steps(10_000) == 3


def test_one_look_says_what_why_idle_and_forecast_say():
    state = a_state([a_node("n"), a_node("o")], [an_ask("a"), an_ask("b", m=2, submit=1), an_ask("c", m=3, submit=2)])
    state = apply(state, decide(state, 0), 0)
    sight = foresee(state, 10, 1_000)
    assert (sight.waits, sight.idle, sight.starts) == (why(state, 10), idle(state, 10), forecast(state, 10, 1_000))
    assert sight.starts == {"b": 100, "c": None}
