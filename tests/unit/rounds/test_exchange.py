"""When an exchange closes, by table and by law."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import IllegalTransition
from coordinator.rounds.exchange import Abandon, Close, Terms, Wait, new_round
from coordinator.rounds.slots import FINAL, OPEN, SlotEvent, SlotState, advance

T = Terms(minimum=2, target=0, deadline=100.0, wait_s=50.0, grace_s=10.0)
NAMES = ["cleveland", "hungary", "switzerland", "vabeach"]


def round_of(terms=T, nodes=3, **states):
    made = new_round(terms, [(i, f"n{i}", NAMES[i]) for i in range(nodes)])
    for name, event in states.items():
        slot = NAMES.index(name)
        made.apply(slot, SlotEvent.OFFER)
        made.apply(slot, event, "why", "words")
    return made


def test_every_slot_final_and_the_minimum_reached_closes():
    made = round_of(cleveland=SlotEvent.TAKE, hungary=SlotEvent.TAKE, switzerland=SlotEvent.FAIL)
    assert made.verdict(0.0, {}) == Close((0, 1))


def test_a_shortage_is_one_line_without_tracebacks():
    made = new_round(T, [(0, "n0", "cleveland")])
    made.apply(0, SlotEvent.OFFER)
    made.apply(0, SlotEvent.FAIL, "app_raised", "ValueError: boom\nTraceback (most recent call last):\n  File ...")
    verdict = made.verdict(0.0, {})
    assert isinstance(verdict, Abandon)
    assert (
        verdict.sentence
        == f"0 of at least {made.minimum} updates came in; cleveland failed: app_raised (ValueError: boom)"
    )


def test_every_slot_final_below_the_minimum_abandons_at_once_and_says_why():
    made = round_of(cleveland=SlotEvent.TAKE, hungary=SlotEvent.DROP, switzerland=SlotEvent.DENY)
    verdict = made.verdict(0.0, {})
    assert isinstance(verdict, Abandon)
    assert verdict.sentence == (
        "1 of at least 2 updates came in; hungary dropped: why (words); switzerland denied: why (words)"
    )


def test_an_app_that_reads_errors_itself_is_given_them():
    made = round_of(Terms(2, 0, 100, 50, 10, errors_are_replies=True), nodes=1, cleveland=SlotEvent.FAIL)
    assert made.verdict(0.0, {}) == Close(())


def test_target_updates_close_before_the_others_are_in():
    terms = Terms(minimum=1, target=2, deadline=100, wait_s=50, grace_s=10)
    made = round_of(terms, nodes=4, cleveland=SlotEvent.TAKE)
    assert isinstance(made.verdict(0.0, {}), Wait)
    made.apply(2, SlotEvent.TAKE)
    assert made.verdict(0.0, {}) == Close((0, 2))


def test_the_deadline_closes_with_the_minimum():
    made = round_of(cleveland=SlotEvent.TAKE, hungary=SlotEvent.TAKE)
    assert made.verdict(99.9, {}) == Wait(
        100.0, "2 of 3 updates in; waiting for switzerland (not asked yet)", stalled=False
    )
    assert made.verdict(100.0, {}) == Close((0, 1))


def test_below_the_minimum_the_deadline_begins_a_visible_wait_that_ends():
    made = round_of(cleveland=SlotEvent.TAKE, hungary=SlotEvent.ACCEPT)
    away = {"n2": (0.0, "14:05")}
    waiting = made.verdict(100.0, away)
    assert isinstance(waiting, Wait)
    assert waiting.stalled
    assert waiting.until == 150.0
    assert waiting.sentence == "waiting for 1 more of 2: hungary (at work), switzerland offline since 14:05"
    assert isinstance(made.verdict(150.0, away), Abandon)


def test_nobody_at_work_below_the_minimum_is_a_stall_before_the_deadline():
    made = round_of(cleveland=SlotEvent.TAKE, hungary=SlotEvent.FAIL)
    assert made.verdict(1.0, {"n2": (0.0, "14:05")}).stalled
    assert not made.verdict(1.0, {}).stalled


def test_with_the_minimum_in_a_node_away_longer_than_the_grace_is_not_waited_for():
    made = round_of(cleveland=SlotEvent.TAKE, hungary=SlotEvent.TAKE)
    away = {"n2": (20.0, "14:05")}
    assert made.verdict(29.9, away) == Wait(
        30.0, "2 of 3 updates in; waiting for switzerland offline since 14:05", False
    )
    assert made.verdict(30.0, away) == Close((0, 1))


def test_updates_that_disagree_do_not_make_a_minimum():
    made = round_of(cleveland=SlotEvent.TAKE, hungary=SlotEvent.TAKE, switzerland=SlotEvent.FAIL)
    made.agreeing = 1
    verdict = made.verdict(0.0, {})
    assert isinstance(verdict, Abandon)
    assert "1 updates disagree" in verdict.sentence


def test_a_minimum_over_the_number_asked_means_all_of_them():
    made = round_of(Terms(5, 0, 100, 50, 10), nodes=1, cleveland=SlotEvent.TAKE)
    assert made.verdict(0.0, {}) == Close((0,))


@pytest.mark.parametrize("reason", ["app_crashed", "app_killed", "node_error", "lease_expired"])
def test_an_accident_is_tried_twice_again_then_it_is_final(reason):
    made = round_of(nodes=1)
    states = [made.fail(0, reason, "").state for _ in range(3)]
    assert states == [SlotState.PENDING, SlotState.PENDING, SlotState.FAILED]


def test_an_exception_of_the_app_is_final_at_once():
    assert round_of(nodes=1).fail(0, "app_raised", "ValueError").state is SlotState.FAILED


@pytest.mark.parametrize(("state", "event"), list(itertools.product(sorted(FINAL - {SlotState.INCLUDED}), SlotEvent)))
def test_nothing_happens_to_a_final_slot(state, event):
    with pytest.raises(IllegalTransition):
        advance(state, event)


@pytest.mark.parametrize("state", sorted(OPEN))
def test_every_open_slot_can_fail_be_denied_dropped_taken_and_closed(state):
    ends = {
        advance(state, e) for e in (SlotEvent.FAIL, SlotEvent.DENY, SlotEvent.DROP, SlotEvent.TAKE, SlotEvent.CLOSE)
    }
    assert ends == FINAL


@given(
    st.permutations([(i, e) for i, e in enumerate([SlotEvent.TAKE, SlotEvent.FAIL, SlotEvent.TAKE, SlotEvent.DROP])])
)
def test_the_order_of_events_does_not_change_the_verdict(order):
    made = round_of(nodes=4)
    for slot, event in order:
        made.apply(slot, event, "why")
    assert made.verdict(0.0, {}) == Close((0, 2))
