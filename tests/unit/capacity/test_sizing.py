"""General service, gangs, how many GPUs, and the simulated queue that stands beside the formula."""

import dataclasses

import numpy as np
import pytest

from common.errors import BadInput
from coordinator.capacity import simulated as sim
from coordinator.capacity.erlang import Queue
from coordinator.capacity.observed import Round, observe
from coordinator.capacity.sizing import Demand, formula, gpus_for


def test_a_gang_is_one_customer_and_the_pool_whole_gangs():
    answer = formula(Demand(0.7 * 4, 1.0, gang=4), 19)
    assert answer.servers == 4  # 19 GPUs: three are left over
    assert answer.p_wait == Queue(4, 0.7 * 4, 1.0).p_wait


def test_exponential_service_is_where_both_formulas_meet():
    demand = Demand(14.0, 1.0)
    assert formula(demand, 16) == formula(demand, 16, exponential=True)


@pytest.mark.parametrize(("ca2", "cs2", "factor"), [(1, 0, 0.5), (1, 4, 2.5), (0, 0, 0.0), (3, 1, 2.0)])
def test_allen_and_cunneen_scale_the_mean_wait_and_its_tail(ca2, cs2, factor):
    plain = formula(Demand(14.0, 1.0), 16)
    general = formula(Demand(14.0, 1.0, ca2=ca2, cs2=cs2), 16)
    assert general.wq == pytest.approx(plain.wq * factor)
    assert general.waits["p99"] == pytest.approx(plain.waits["p99"] * factor)
    assert general.p_wait == plain.p_wait


@pytest.mark.parametrize("demand", [Demand(8.0, 1.0), Demand(0.5, 30.0, gang=8, cs2=0.2), Demand(980.0, 1.0)], ids=str)
@pytest.mark.parametrize("wait", [0.0, 0.1, 3.0])
def test_one_gang_fewer_would_miss_the_target(demand, wait):
    gpus = gpus_for(demand, wait)
    assert gpus % demand.gang == 0
    assert formula(demand, gpus).waits["p95"] <= wait
    try:
        fewer = formula(demand, gpus - demand.gang).waits["p95"]
    except BadInput:
        return  # it could not even keep up
    assert fewer > wait


def test_a_pool_that_cannot_keep_up_says_what_would():
    with pytest.raises(BadInput, match="hold 2 gangs of 8") as refused:
        formula(Demand(0.1, 30.0, gang=8), 23)
    assert "At least 32 GPUs" in refused.value.next_step
    assert refused.value.code == "queue_only_grows"
    with pytest.raises(BadInput, match="does not fit"):
        formula(Demand(0.1, 1.0, gang=8), 7)


@pytest.mark.parametrize(
    "change", [{"arrivals": 0.0}, {"service_s": float("nan")}, {"cs2": -1.0}, {"gang": 0}], ids=str
)
def test_a_demand_that_is_none_is_refused(change):
    with pytest.raises(BadInput):
        dataclasses.replace(Demand(1.0, 1.0), **change)


@pytest.mark.parametrize(
    "demand", [Demand(0.7 * 16, 1.0), Demand(0.7 * 4, 1.0, gang=4), Demand(0.85 * 8, 1.0)], ids=str
)
def test_the_simulated_queue_converges_to_the_formula(demand):
    gpus = {1: 16 if demand.arrivals > 7 else 8, 4: 16}[demand.gang]
    runs = [sim.simulated(demand, gpus, seed=seed) for seed in (1, 2, 3)]
    exact = formula(demand, gpus)
    assert np.mean([run.p_wait for run in runs]) == pytest.approx(exact.p_wait, abs=0.02)
    assert np.mean([run.wq for run in runs]) == pytest.approx(exact.wq, rel=0.08)
    assert np.mean([run.waits["p95"] for run in runs]) == pytest.approx(exact.waits["p95"], rel=0.08)


def test_customers_take_the_first_server_that_is_free():
    waits = sim.waits_of([0.0, 1.0, 1.0, 1.0], [5.0, 2.0, 4.0, 1.0], servers=2)
    assert waits.tolist() == [0.0, 0.0, 1.0, 2.0]  # at 3 the second is free, at 5 the first


def test_the_samples_have_the_variation_that_was_asked_for():
    gaps, lengths = sim.gaps_and_lengths(Demand(2.0, 3.0, ca2=2.0, cs2=0.25), 200_000, seed=5)
    for values, mean, scv in ((gaps, 0.5, 2.0), (lengths, 3.0, 0.25)):
        assert values.mean() == pytest.approx(mean, rel=0.01)
        assert values.var() / values.mean() ** 2 == pytest.approx(scv, rel=0.03)


def test_the_simulated_number_of_gpus_is_the_fewest_for_its_customers(monkeypatch):
    monkeypatch.setattr(sim, "SEARCHED", 20_000)
    demand = Demand(8.0, 1.0, gang=2, cs2=0.5)
    gpus = sim.simulated_gpus_for(demand, 0.2, 0.95, seed=3)
    gaps, lengths = sim.gaps_and_lengths(demand, 20_000, 3)
    at = [float(np.quantile(sim.waits_of(gaps, lengths, gpus // 2 - less)[2000:], 0.95)) for less in (0, 1)]
    assert at[0] <= 0.2 < at[1]
    assert abs(gpus - gpus_for(demand, 0.2)) <= 4


def test_the_real_queue_is_read_as_a_demand():
    rounds = [
        Round(i * 10_000, i * 10_000 + (500 if i % 4 == 0 else 0), i * 10_000 + 30_500, gang=4) for i in range(41)
    ]
    rounds.append(Round(400_000, None, None, gang=4))  # still waits
    rounds.append(Round(400_000, 400_000, None, gang=1, gpu=False))
    seen = observe(rounds, gpu=True)
    assert seen.gangs == {4: 42}
    assert seen.demand.arrivals == pytest.approx(41 / 400)
    assert seen.demand.gang == 4
    assert seen.demand.service_s == pytest.approx((30 * 11 + 30.5 * 30) / 41)
    assert seen.p_wait == pytest.approx(11 / 41)
    assert observe(rounds, gpu=False).demand is None  # one round tells no rate
