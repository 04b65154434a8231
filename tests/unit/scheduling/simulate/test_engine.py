"""The simulator against hand-made days, an independent queue and brute force: it is the planner that is driven."""

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest

from common.errors import BadInput
from coordinator.capacity.simulated import waits_of
from coordinator.scheduling.policies import ABOUT, named
from coordinator.scheduling.simulate import engine
from coordinator.scheduling.simulate.engine import Setup, simulate
from coordinator.scheduling.simulate.setting import gpus_for_load, policy_of
from coordinator.scheduling.simulate.sizes import SIZES, Noisy, TrueSizes, sizes_named
from coordinator.scheduling.simulate.trace import TraceJob, read_trace

MINUTE = 60_000


def jobs_of(*rows):
    """(submit s, length s, gpus[, tenant]) in the order of submission."""
    return tuple(
        TraceJob(
            f"j{i:03d}", i, row[3] if len(row) > 3 else "a", row[0] * 1000, row[2], 1000, row[1] * 1000, "normal", None
        )
        for i, row in enumerate(rows)
    )


def run(jobs, policy="fcfs", gpus=1, round_s=3600, k=None, sizes=None, **more):
    history = simulate(jobs, Setup(named(policy, k=k), gpus, round_s * 1000, **more), sizes or TrueSizes())
    assert history.violations == 0
    assert len(history.outcomes) + len(history.never) == len(jobs)
    return history


def ends(history):
    return {o.job.id: o.ended_ms / 1000 for o in history.outcomes}


def test_rounds_of_two_jobs_interleave_where_shares_are_fair():
    jobs = jobs_of((0, 30, 1, "a"), (0, 30, 1, "b"))
    assert ends(run(jobs, "fair", round_s=10)) == {"j000": 50, "j001": 60}
    assert ends(run(jobs, "fcfs", round_s=10)) == {"j000": 30, "j001": 60}


def test_a_gang_waits_for_all_its_gpus_and_nobody_passes_it_who_might_delay_it():
    # 3 GPUs.  From 5 on the gang of 3 is promised 90; the lease of j002 might last beyond that, so it goes behind.
    done = ends(run(jobs_of((0, 90, 2), (5, 10, 3), (10, 5, 1)), gpus=3, round_s=90))
    assert done == {"j000": 90, "j001": 100, "j002": 105}
    # A lease that ends by 90 at the latest delays nobody.
    done = ends(run(jobs_of((0, 90, 2), (0, 10, 3), (0, 5, 1)), gpus=3, round_s=90))
    assert done == {"j000": 90, "j002": 5, "j001": 100}


def test_zero_lengths_end_as_they_start_and_wait_their_turn():
    done = ends(run(jobs_of((0, 10, 1), (1, 0, 1), (2, 5, 1)), "fcfs"))
    assert done == {"j000": 10, "j001": 10, "j002": 15}


def test_a_job_larger_than_the_pool_is_named_and_blocks_nobody():
    history = run(jobs_of((0, 10, 5), (0, 10, 2)), gpus=4)
    assert [job.id for job in history.never] == ["j000"]
    assert ends(history) == {"j001": 10}


def test_parts_of_a_gpu_share_one():
    jobs = tuple(TraceJob(f"j{i}", i, "a", 0, 1, 500, 10_000, "normal", None) for i in range(4))
    assert sorted(ends(run(jobs, gpus=1)).values()) == [10, 10, 20, 20]


@pytest.mark.parametrize("seed", range(2))
def test_first_come_first_served_is_the_queue_of_the_formulas(seed):
    """One GPU a job, no preemption: every wait equals that of the recursion of Kiefer and Wolfowitz."""
    draw = random.Random(seed)
    gaps = [round(draw.expovariate(1.0), 3) for _ in range(200)]
    lengths = [round(draw.expovariate(1 / 3.5), 3) for _ in range(200)]
    at = list(itertools.accumulate(Fraction(str(gap)) for gap in gaps))
    lines = ["submit,duration", *(f"{float(t)},{length}" for t, length in zip(at, lengths, strict=True))]
    history = run(read_trace(lines, round_ms=1).jobs, gpus=4)
    waits = {o.job.id: (o.started_ms - o.job.submit_ms) / 1000 for o in history.outcomes}
    expected = waits_of(gaps, lengths, 4)
    assert [waits[id_] for id_ in sorted(waits)] == pytest.approx(expected.tolist(), abs=2e-3)
    assert max(expected) > 1


@pytest.mark.parametrize("seed", range(4))
def test_shortest_first_on_one_gpu_is_the_best_order_there_is(seed):
    draw = random.Random(seed)
    lengths = [draw.randint(1, 30) for _ in range(6)]
    history = run(jobs_of(*((0, length, 1) for length in lengths)), "sjf", k=1e6)
    best = min(sum(itertools.accumulate(order)) for order in itertools.permutations(lengths))
    assert sum(ends(history).values()) == best


@pytest.mark.parametrize(("policy", "sizes"), list(zip(ABOUT, SIZES, strict=True)))
def test_the_same_seed_gives_the_same_history(policy, sizes):
    draw = random.Random(3)
    rows = sorted(
        (draw.randint(0, 300), draw.randint(0, 200), draw.choice((1, 1, 2, 4)), draw.choice("abc")) for _ in range(30)
    )
    one, other = (
        run(jobs_of(*rows), policy, gpus=4, round_s=30, sizes=sizes_named(sizes, seed=9), weights={"b": 3})
        for _ in "12"
    )
    assert one == other


def test_noise_depends_on_the_seed_and_the_job_alone():
    job = jobs_of((0, 1000, 1))[0]
    assert Noisy(1.0, 5).left_ms(job, 0) == Noisy(1.0, 5).left_ms(job, 0) != Noisy(1.0, 6).left_ms(job, 0)
    assert Noisy(0.0, 5).left_ms(job, 400_000) == 600_000


@pytest.mark.parametrize("worst", [0, 10**12])
def test_wrong_sizes_delay_nobody_beyond_the_bound(worst):
    """An ask is overtaken only by jobs submitted within k times its believed, capped size after it."""

    class Hostile:
        def left_ms(self, job, attained_ms):
            return worst if job.tenant == "victim" else 0

        def finished(self, job):
            pass

    declared = 60_000
    victim = TraceJob("j000", 0, "victim", 0, 1, 1000, 30_000, "normal", declared)
    others = tuple(
        TraceJob(f"j{i:03d}", i, "others", i * 5000, 1, 1000, 10_000, "normal", 10_000) for i in range(1, 100)
    )
    history = run((victim, *others), "sjf", k=4, sizes=Hostile(), round_s=10)
    done = next(o for o in history.outcomes if o.job.id == "j000")
    # Whoever came later than k x 60 s goes behind; what came before needs 10 s each on the one GPU.
    overtakers = [job for job in others if job.submit_ms <= 4 * declared]
    assert done.ended_ms <= 30_000 + sum(job.length_ms for job in overtakers) + 10_000


def test_learned_sizes_find_the_short_group():
    draw = random.Random(1)
    rows = [
        (i * 20, draw.randint(5, 15) if i % 2 else draw.randint(200, 400), 1, "short" if i % 2 else "long")
        for i in range(200)
    ]
    jobs = jobs_of(*rows)
    means = {}
    for sizes in ("learned", "true"):
        history = run(jobs, "sjf", k=4, gpus=7, round_s=100, sizes=sizes_named(sizes))
        means[sizes] = np.mean([o.completion_ms for o in history.outcomes])
    blind = np.mean([o.completion_ms for o in run(jobs, "fcfs", gpus=7, round_s=100).outcomes])
    assert means["true"] <= means["learned"] * 1.01
    assert means["learned"] < 0.8 * blind


def test_progress_is_told_and_ends_with_all(monkeypatch):
    monkeypatch.setattr(engine, "_STEP", 50)
    said = []
    simulate(
        jobs_of(*((i, 1, 1) for i in range(200))),
        Setup(named("fcfs"), 2, 1000),
        TrueSizes(),
        lambda *at: said.append(at),
    )
    assert len(said) >= 3
    assert said[-1][:2] == (200, 200)


@pytest.mark.parametrize(
    ("setup", "says"),
    [
        (Setup(named("fcfs"), 0, 1000), "from 1 to"),
        (Setup(named("fcfs"), 10**9, 1000), "from 1 to"),
        (Setup(named("fcfs"), 1, 0), "at least a millisecond"),
        (Setup(named("fcfs"), 1, 1), "more than 50,000,000"),
    ],
)
def test_what_would_never_end_is_refused(setup, says):
    with pytest.raises(BadInput, match=says):
        simulate(jobs_of((0, 10**6, 1)), setup, TrueSizes())


def test_numbers_of_priority_are_hours_and_unknown_words_are_named():
    jobs = read_trace(["submit,duration,priority", "0,1,2.5", "0,1,high", "0,1,"], round_ms=1).jobs
    starts = policy_of("priority", jobs).head_start_ms
    assert starts["2.5"] == 2.5 * 3_600_000
    assert starts["high"] > starts["normal"] == 0
    strange = read_trace(["submit,duration,priority", "0,1,gold"], round_ms=1).jobs
    with pytest.raises(BadInput, match="line 2: class 'gold'"):
        policy_of("priority", strange)
    assert policy_of("priority", strange, head_starts_s={"gold": 60.0}).head_start_ms["gold"] == 60_000
    assert policy_of("fair", strange).fair


def test_without_a_pool_it_is_one_that_is_nine_tenths_full():
    jobs = jobs_of(*((i * 10, 27, 1) for i in range(101)))
    assert gpus_for_load(jobs) == 4  # 101 x 27 s in 1,000 s is 2.7 GPUs' work
    assert gpus_for_load(jobs_of((0, 5, 16), (0, 5, 2))) == 16
