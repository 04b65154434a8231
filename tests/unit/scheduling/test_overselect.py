"""Over-selection and the cut-off, against every outcome there is and against rounds that were drawn."""

import math
import random
from itertools import product

import pytest

from coordinator.scheduling.overselect import Completions, Prospect, at_least, enough, select


def by_counting(completes, m):
    """Return P(at least m) by adding up all 2^n outcomes."""
    return sum(
        math.prod(p if came else 1 - p for p, came in zip(completes, outcome, strict=True))
        for outcome in product((0, 1), repeat=len(completes))
        if sum(outcome) >= m
    )


@pytest.mark.parametrize("seed", range(4))
def test_unequal_nodes_are_counted_exactly(seed):
    completes = [random.Random(seed * 100 + i).random() for i in range(9)]
    for m in range(11):
        assert at_least(completes, m) == pytest.approx(by_counting(completes, m), abs=1e-14)


@pytest.mark.parametrize(("p", "m"), [(0.9, 20), (0.5, 3), (0.99, 100), (1.0, 7)])
def test_n_is_the_smallest_that_is_sure_enough(p, m):
    def binomial(n):
        return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(m, n + 1))

    n = enough([p] * 1000, m)
    assert binomial(n) >= 0.95
    assert n == m or binomial(n - 1) < 0.95


def test_where_not_even_all_are_enough_it_says_so():
    assert enough([0.5] * 4, 4) is None
    assert enough([], 1) is None
    assert enough([0.3], 0) == 0


def rounds(draw, m, learned_error):
    """Return (what is believed, what is true, one outcome) of a pool of phones."""
    speeds = [draw.lognormvariate(4, math.log(3) / 1.645) for _ in range(2 * m)]
    noise = [draw.uniform(0.1, 0.35) for _ in speeds]
    completes = [draw.choice((0.9, 0.95, 0.99)) for _ in speeds]
    true = [Prospect(s, s * math.exp(1.645 * x), p) for s, x, p in zip(speeds, noise, completes, strict=True)]
    believed = [
        Prospect(
            s * math.exp(draw.gauss(0, learned_error)) * 0.999,
            s * math.exp(1.645 * math.hypot(x, learned_error)) * 2,
            p,
        )
        for s, x, p in zip(speeds, noise, completes, strict=True)
    ]
    times = [
        s * math.exp(draw.gauss(0, x)) if draw.random() < p else math.inf
        for s, x, p in zip(speeds, noise, completes, strict=True)
    ]
    return believed, true, times


def test_rounds_are_shorter_than_waiting_for_all_and_near_what_an_oracle_does():
    draw, m, bound = random.Random(7), 10, 3000.0
    all_, ours, oracle, missed = 0.0, 0.0, 0.0, 0
    for _ in range(250):
        believed, true, times = rounds(draw, m, learned_error=0.1)
        all_ += max(min(time, bound) for time in times[:m] if time < math.inf)
        for prospects, whose in ((believed, "ours"), (true, "oracle")):
            plan = select(prospects, m, bound)
            done = sorted(times[: plan.n])[m - 1]
            if whose == "ours":
                ours += min(done, plan.cutoff_s)
                missed += done > plan.cutoff_s
            else:
                oracle += min(done, plan.cutoff_s)
    assert ours <= 0.7 * all_
    assert ours <= 1.05 * oracle
    assert missed <= 0.07 * 250


def test_the_plan_foretells_its_own_mean():
    draw, m = random.Random(1), 5
    _, true, _ = rounds(draw, m, 0.0)
    plan = select(true, m, 3000.0)
    sigma = [math.log(p.late_s / p.median_s) / 1.645 for p in true]
    total, made = 0.0, 0
    for _ in range(4000):
        times = sorted(
            p.median_s * math.exp(draw.gauss(0, s)) if draw.random() < p.completes else math.inf
            for p, s in zip(true[: plan.n], sigma[: plan.n], strict=True)
        )
        total += min(times[m - 1], plan.cutoff_s)
        made += times[m - 1] <= plan.cutoff_s
    assert total / 4000 == pytest.approx(plan.expected_s, rel=0.05)
    assert made / 4000 == pytest.approx(plan.sure, abs=0.02)
    assert plan.sure >= 0.95


def test_equal_nodes_that_never_fail_need_no_spares():
    plan = select([Prospect(10.0, 10.001)] * 20, 5, 60.0)
    assert plan.n == 5
    assert plan.cutoff_s == pytest.approx(10, rel=0.15)


def test_what_the_job_declared_caps_the_cutoff():
    plan = select([Prospect(100.0, 400.0, 0.9)] * 10, 5, 50.0)
    assert plan.cutoff_s == 50.0
    assert plan.n == enough([0.9] * 10, 5)  # no further spares for what is hopeless
    assert plan.sure < 0.95


def test_no_more_are_asked_than_may_be():
    slow = [Prospect(10.0, 90.0, 0.6)] * 50
    assert select(slow, 10, 1000.0).n == enough([0.6] * 50, 10)
    assert select(slow, 10, 1000.0, most=12).n == 12
    assert select(slow[:3], 10, 1000.0).n == 3


def test_hundreds_of_nodes_are_counted_by_the_normal_law_alike():
    prospects = [Prospect(10.0 + i % 7, 25.0 + i % 11, 0.9) for i in range(400)]
    few, many = select(prospects, 200, 500.0), select(prospects, 201, 500.0)
    assert abs(few.n - many.n) <= 3
    assert few.cutoff_s == pytest.approx(many.cutoff_s, rel=0.05)


def test_a_node_is_believed_until_it_fails_and_again_after_it_works():
    shares = Completions()
    assert shares.of("new") == 0.95
    for _ in range(40):
        shares.observe("bad", False)
        shares.observe("good", True)
    assert shares.of("bad") < 0.3 < 0.97 < shares.of("good")
    for _ in range(200):
        shares.observe("bad", True)
    assert shares.of("bad") > 0.9
