"""Learned round times: what a pair's row and column foretell, and how often rounds are later than that."""

import json
import math
import random

import pytest

from coordinator.scheduling.quantiles import LATE, RoundTimes


def pinball(y, q, share):
    return max(share * (y - q), (share - 1) * (y - q))


def devices(seed, count):
    """Return speeds like those of phones: 95 % over 50 % is 3."""
    draw = random.Random(seed)
    return [draw.lognormvariate(0, math.log(3) / 1.645) for _ in range(count)]


def world(seed, nodes=60, jobs=20, rounds=30, cohort=10, drift=False):
    """Yield (round, node, job, seconds): jobs, nodes, pairs, noise of each node, and stalls."""
    draw = random.Random(seed)
    speeds, sizes = devices(seed, nodes), [draw.lognormvariate(3, 1) for _ in range(jobs)]
    noise, pairs = [draw.uniform(0.08, 0.35) for _ in range(nodes)], {}
    for round_ in range(rounds):
        slower = 1.8 if drift and round_ > rounds // 2 else 1.0
        for job in range(jobs):
            for node in draw.sample(range(nodes), cohort):
                pair = pairs.setdefault((node, job), draw.gauss(0, 0.1))
                stall = 3.0 if draw.random() < 0.03 else 1.0
                yield (
                    round_,
                    f"n{node}",
                    f"j{job}",
                    slower * stall * speeds[node] * sizes[job] * math.exp(pair + draw.gauss(0, noise[node])),
                )


@pytest.mark.parametrize("drift", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_rows_and_columns_foretell_better_than_each_jobs_own_past(seed, drift):
    learned, past = RoundTimes(), {}
    ours, theirs, late, counted = [0.0, 0.0], [0.0, 0.0], 0, 0
    for round_, node, job, seconds in world(seed, drift=drift):
        seen = past.setdefault(job, [])
        if round_ >= 5:
            ordered, y = sorted(seen), math.log(seconds)
            for i, (share, found) in enumerate(((0.5, learned.median(node, job)), (LATE, learned.late(node, job)))):
                own = ordered[min(len(ordered) - 1, int(share * len(ordered)))]
                ours[i] += pinball(y, math.log(found), share)
                theirs[i] += pinball(y, math.log(own), share)
            late += seconds > learned.late(node, job)
            counted += 1
        learned.observe(node, job, seconds)
        seen.append(seconds)
    assert ours[0] <= 0.8 * theirs[0]
    assert ours[1] <= 0.8 * theirs[1]
    assert 0.93 <= 1 - late / counted <= 0.97


def test_a_node_that_never_ran_the_job_is_foretold_from_both():
    learned = RoundTimes()
    for _ in range(20):
        for job, size in (("short", 10.0), ("long", 100.0)):
            learned.observe("quick", job, size)
            if job == "short":
                learned.observe("slow", job, 5 * size)
    assert learned.median("slow", "long") == pytest.approx(500, rel=0.25)


def test_nothing_seen_foretells_nothing_and_nonsense_teaches_nothing():
    learned = RoundTimes()
    for seconds in (0.0, -1.0, math.inf, math.nan):
        learned.observe("n", "j", seconds)
    assert learned.median("n", "j") is None
    assert learned.late("n", "j") is None


def test_extremes_stay_numbers():
    learned = RoundTimes()
    for seconds in (1e-300, 1e300, 1e-300, 1e300) * 50:
        learned.observe("n", "j", seconds)
    assert 0 < learned.median("n", "j") <= learned.late("n", "j") < 1e12


def test_one_stalled_round_moves_little():
    learned = RoundTimes()
    for _ in range(30):
        learned.observe("n", "j", 10.0)
    learned.observe("n", "j", 1e7)
    assert learned.median("n", "j") < 13


def test_what_is_stored_comes_back_and_learns_on_alike():
    one = RoundTimes()
    for _, node, job, seconds in world(3, nodes=5, jobs=2, rounds=4, cohort=3):
        one.observe(node, job, seconds)
    other = RoundTimes.restore(json.loads(json.dumps(one.record())))
    assert other == one
    for learned in (one, other):
        learned.observe("n1", "j1", 7.0)
    assert other.late("n1", "j0") == one.late("n1", "j0")


def test_what_is_gone_is_forgotten():
    learned = RoundTimes()
    learned.observe("n", "j", 5.0)
    learned.observe("n", "j", 5.0)
    learned.forget_job("j")
    learned.forget_node("n")
    learned.forget_node("n")
    assert (learned.jobs, learned.nodes, learned.margins) == ({}, {}, {})
