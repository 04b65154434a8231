"""Laws of first come, first served over slots."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from coordinator.scheduling.slots import Ask, Expire, Hold, Lease, Start, State, apply, decide

NODES = ["a", "b", "c"]


@st.composite
def states(draw):
    slots = {n: draw(st.integers(0, 3)) for n in NODES}
    leases, asks = [], []
    for index in range(draw(st.integers(0, 12))):
        node = draw(st.sampled_from(NODES))
        at = draw(st.integers(0, 20))
        task = f"job_x/{index}/0"
        if draw(st.booleans()):
            asks.append(Ask(task, f"job_{index % 3}", node, float(at), index, 10.0))
        elif sum(lease.node == node for lease in leases) < slots[node]:
            leases.append(Lease(task, "job_x", node, 0.0, float(at)))
    return State(tuple(asks), tuple(leases), slots)


@given(states(), st.integers(0, 25))
def test_no_node_runs_more_tasks_than_its_slots(state, now):
    after = apply(state, decide(state, float(now)))
    held = Counter(lease.node for lease in after.leases)
    assert all(held[n] <= state.slots[n] for n in NODES)


@given(states(), st.integers(0, 25), st.randoms(use_true_random=False))
def test_the_decision_does_not_depend_on_the_order_of_the_queues(state, now, random):
    asks, leases = list(state.asks), list(state.leases)
    random.shuffle(asks)
    random.shuffle(leases)
    assert decide(State(tuple(asks), tuple(leases), state.slots), float(now)) == decide(state, float(now))


@given(states(), st.integers(0, 25))
def test_deciding_again_starts_nothing_more(state, now):
    once = apply(state, decide(state, float(now)))
    assert not [d for d in decide(once, float(now)) if isinstance(d, (Start, Expire))]


@given(states(), st.integers(0, 25))
def test_nobody_is_passed_by_a_later_ask_for_the_same_node(state, now):
    decisions = decide(state, float(now))
    held = [d.ask for d in decisions if isinstance(d, Hold)]
    since = {a.task: (a.since, a.job, a.order) for a in state.asks}
    for start in (d.lease for d in decisions if isinstance(d, Start)):
        assert all(since[start.task] < since[a.task] for a in held if a.node == start.node)


@given(states(), st.integers(0, 25))
def test_a_free_slot_is_never_left_to_a_waiting_task(state, now):
    after = apply(state, decide(state, float(now)))
    held = Counter(lease.node for lease in after.leases)
    assert all(held[a.node] >= state.slots[a.node] for a in after.asks)


@given(states(), st.integers(0, 25))
def test_a_lease_lasts_its_duration_from_the_grant(state, now):
    asked = {a.task: a.duration_s for a in state.asks}
    for decision in decide(state, float(now)):
        if isinstance(decision, Start):
            assert decision.lease.until - decision.lease.start == asked[decision.lease.task]
