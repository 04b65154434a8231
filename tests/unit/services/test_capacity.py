"""Rates are read off the scheduler's journal; what a question leaves open is what was measured."""

import pytest

from common.errors import BadInput
from coordinator.capacity.observed import Round, observe
from coordinator.capacity.outlook import Target
from coordinator.scheduling.events import Asked, Began, Ended, Entry, Expired, Started, Withdrawn
from coordinator.scheduling.policies import named
from coordinator.scheduling.records import Ask, Lease, Need
from coordinator.services.capacity import Question, Seen, answer, rounds_in

WEEK = 7 * 86_400.0


def ask(id_, m=2, milli=1000):
    return Ask(id_, "job_1", "north", Need("cuda" if milli else "", milli), m, m, 1000, 5000, 0, 0)


def lease(id_, node):
    return Lease(id_, "job_1", "north", node, "north", Need("cuda", 1000), (), 0, 5000, 1000)


def journal(*events):
    return [Entry(seq, at_ms, 0, event) for seq, (at_ms, event) in enumerate(events, start=1)]


def test_a_round_lasts_until_its_last_lease_has_ended():
    rows = journal(
        (0, Began(named("fair"))),
        (100, Asked(ask("a"))),
        (400, Started("a", (lease("a", "n1"), lease("a", "n2")))),
        (900, Ended("a", "n1")),
        (1500, Expired("a", "n2")),
        (2000, Asked(ask("b", m=3, milli=2000))),
        (2100, Asked(ask("c", m=4, milli=0))),
        (2200, Asked(ask("d"))),
        (2300, Withdrawn("d")),
    )
    assert rounds_in(rows, 0) == [
        Round(100, 400, 1500, 2, True),
        Round(2000, None, None, 6, True),
        Round(2100, None, None, 4, False),
    ]
    assert [r.asked_ms for r in rounds_in(rows, 2000)] == [2000, 2100]


def test_rows_that_begin_in_the_middle_of_a_round_teach_nothing_of_it():
    rows = journal((5, Ended("old", "n1")), (6, Started("older", (lease("older", "n"),))), (7, Expired("older", "n")))
    assert rounds_in(rows, 0) == []


def measured(places=8):
    rounds = [Round(i * 60_000, i * 60_000 + 1000, i * 60_000 + 91_000, 2) for i in range(30)]
    return Seen(observe(rounds, gpu=True), places)


def test_the_measured_queue_answers_for_itself():
    record = answer(Question(Target(30.0), WEEK, True), measured())
    assert record["gpus"] == 8
    assert record["servers"] == 4
    assert record["demand"]["arrivals_per_s"] == pytest.approx(1 / 60)
    assert record["demand"]["service_s"] == pytest.approx(90)
    assert record["observed"]["rounds"] == 30
    assert record["observed"]["gangs"] == {"2": 30}
    # Equal gaps and equal lengths: nobody ever waits, and the formula with its variation says so.
    assert record["allen_cunneen"]["wq_s"] == pytest.approx(0, abs=1e-9)
    assert record["simulated"]["wq_s"] == pytest.approx(0, abs=1e-9)
    assert record["mmc"]["wq_s"] > 1
    assert record["target"]["gpus_allen_cunneen"] == 4 <= record["target"]["gpus_mmc"]


def test_what_the_question_says_wins_over_what_was_measured():
    record = answer(Question(Target(30.0), WEEK, True, gpus=64, gang=8, arrivals=0.01, cs2=1.0, ca2=1.0), measured())
    assert (record["gpus"], record["servers"]) == (64, 8)
    assert record["demand"]["arrivals_per_s"] == 0.01
    assert record["demand"]["service_s"] == pytest.approx(90)


def test_a_queue_that_only_grows_still_learns_what_it_needs():
    record = answer(Question(Target(60.0), WEEK, True, gpus=2, gang=1, arrivals=1.0, service_s=3.0), None)
    assert record["mmc"] is record["simulated"] is record["states"] is None
    assert "At least 4 GPUs" in record["only_grows"]
    assert record["target"]["gpus_mmc"] >= 4


def test_too_few_rounds_are_no_rate():
    few = Seen(observe([Round(0, 0, 10, 1)], gpu=True), 8)
    with pytest.raises(BadInput, match="only 1 rounds") as refused:
        answer(Question(Target(60.0), WEEK, True), few)
    assert refused.value.code == "nothing_measured"
    with pytest.raises(BadInput, match="no node"):
        answer(Question(Target(60.0), WEEK, True), measured(places=0))
