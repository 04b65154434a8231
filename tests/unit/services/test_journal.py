"""Replay: the n-th call is answered as before, or it is a divergence."""

import pytest

from common.errors import AppFailed
from coordinator.domain.exchanges import Exchange, ExchangeKind, Instruction, Reply
from coordinator.services.calls import Call
from coordinator.services.journal import Journal

JOB = "job_1"


def instruction(slot, node="n0", kind="train", content="a" * 64):
    return Instruction(slot, node, kind, content, 10, "", 60.0)


ONE = (instruction(0),)


def row(seq, kind=ExchangeKind.EXCHANGE, messages=ONE, closed=1.0, replies=(), fold=True):
    return Exchange(JOB, seq, kind, fold, messages, 0.0, closed, replies=replies)


def call(messages=ONE, kind=ExchangeKind.EXCHANGE, fold=True):
    return Call(kind, fold, "", 60.0, 1, tuple(messages))


def test_calls_are_answered_in_order_up_to_the_frontier():
    journal = Journal(JOB, [row(2), row(1)])
    assert [journal.recorded(call()).seq for _ in range(2)] == [1, 2]
    assert journal.live
    assert journal.recorded(call()) is None
    assert journal.seq == 3


def test_other_bytes_in_the_message_are_no_divergence():
    assert Journal(JOB, [row(1)]).recorded(call([instruction(0, content="b" * 64)])).seq == 1


@pytest.mark.parametrize(
    "other",
    [
        call([instruction(0, node="n1")]),
        call([instruction(0), instruction(1)]),
        call([instruction(0, kind="evaluate")]),
        call(fold=False),
        call(kind=ExchangeKind.PUSH),
    ],
)
def test_another_call_than_before_is_a_divergence(other):
    with pytest.raises(AppFailed) as caught:
        Journal(JOB, [row(1)]).recorded(other)
    assert caught.value.reason == "diverged"


def test_an_exchange_that_was_opened_and_never_closed_is_asked_again():
    journal = Journal(JOB, [row(1), row(2, closed=None)])
    assert journal.recorded(call()).seq == 1
    assert journal.live
    assert journal.seq == 2


def test_a_pull_is_answered_with_what_it_gave_before():
    push = row(1, ExchangeKind.PUSH, closed=None, fold=False)
    pull = row(2, ExchangeKind.PULL, messages=(), replies=(Reply(0, "n0", "a" * 64, push_seq=1),), fold=False)
    journal = Journal(JOB, [push, pull])
    assert journal.recorded(call(kind=ExchangeKind.PUSH, fold=False)).seq == 1
    assert journal.recorded_pull(["job_1/1/0", "job_1/1/1"]).seq == 2
    assert journal.pulled() == {"job_1/1/0"}


def test_a_pull_that_gave_nothing_is_not_recorded_so_where_none_stands_nothing_is_given():
    journal = Journal(JOB, [row(1)])
    assert journal.recorded_pull(["job_1/1/0"]) is None
    assert not journal.live


def test_a_pull_of_other_messages_is_a_divergence():
    pull = row(1, ExchangeKind.PULL, messages=(), replies=(Reply(0, "n0", "a" * 64, push_seq=7),), fold=False)
    with pytest.raises(AppFailed):
        Journal(JOB, [pull]).recorded_pull(["job_1/1/0"])


def test_a_new_life_of_the_app_begins_at_the_first_call():
    journal = Journal(JOB, [row(1)])
    journal.recorded(call())
    journal.append(row(2))
    journal.rewind()
    assert [journal.recorded(call()).seq for _ in range(2)] == [1, 2]
