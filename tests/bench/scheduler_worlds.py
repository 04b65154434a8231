"""Pools under constant load, made by seed: what fairness and idleness are measured on."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np

from coordinator.scheduling.policies import named
from coordinator.scheduling.simulate.engine import History, Setup, simulate
from coordinator.scheduling.simulate.report import quantum
from coordinator.scheduling.simulate.shares import Curves, fairness_gap
from coordinator.scheduling.simulate.sizes import Noisy
from coordinator.scheduling.simulate.trace import TraceJob

GPUS = 64
ROUND_MS = 120_000  # longest
SPARE = 1.25  # work beyond what fits into the time, so that nobody runs dry
KINDS = 2  # of jobs, for every size of gang that a tenant has
SPREAD, NOISE = 0.5, 0.1  # of lengths between jobs, and of a round about what its job is known to take (logarithms)


def backlog(tenants: dict[str, tuple[int, tuple[int, ...]]], seconds: float, seed: int) -> tuple[TraceJob, ...]:
    """Return jobs of one round each, all there from the start: for every tenant more than it can get.

    A round takes about as long as those before it did: its lease is bounded by the 95 % quantile of that.

    Args:
        tenants: Name -> (weight, sizes of its gangs).
        seconds: How long everybody must have work.
        seed: Of lengths and sizes.
    """
    draw = random.Random(seed)
    weights = sum(weight for weight, _ in tenants.values())
    jobs: list[TraceJob] = []
    for name, (weight, gangs) in tenants.items():
        kinds = [(gang, 30_000 * draw.lognormvariate(0, SPREAD)) for gang in gangs for _ in range(KINDS)]
        budget, count = GPUS * seconds * 1000 * weight / weights * SPARE, 0
        while budget > 0 or count < 2 * GPUS:  # more than one pass can start
            gang, usual = draw.choice(kinds)
            length, late = (round(usual * math.exp(NOISE * z)) for z in (draw.gauss(0, 1), 1.645))
            jobs.append(TraceJob("", 0, name, 0, gang, 1000, min(length, ROUND_MS), "normal", min(late, ROUND_MS)))
            budget -= gang * length
            count += 1
    draw.shuffle(jobs)
    return tuple(replace(job, id=f"j{i:07d}") for i, job in enumerate(jobs))


def always_backlogged(seconds: float, seed: int) -> dict[str, float]:
    """Return fairness gap and share error of 20 tenants with weights 1 to 4 and gangs of 1 to 8 on 64 GPUs."""
    tenants = {f"t{i:02d}": (1 + i % 4, (1 + i % 8,)) for i in range(20)}
    weights = {name: weight for name, (weight, _) in tenants.items()}
    history, setup = _run(backlog(tenants, seconds, seed), weights, seed)
    curves = _first(Curves.of(history), seconds)
    by_row = np.array([weights[name] for name in history.tenants], float)
    served = np.array([curves.served(i, np.array([0.0, seconds * 1000]))[0] for i in range(len(by_row))])
    shares, fair = served / served.sum(), by_row / by_row.sum()
    return {
        "fairness_gap_quanta": float(fairness_gap(curves, by_row, quantum(history, setup)) or 0.0),
        "share_error": float(np.abs(shares - fair).max()),
        "share_error_relative": float(np.abs(shares / fair - 1).max()),
        "jain": float((served / by_row).sum() ** 2 / (len(by_row) * ((served / by_row) ** 2).sum())),
    }


def gangs_of_all_sizes(seconds: float, seed: int) -> dict[str, float]:
    """Return the idle share while asks wait, with gangs of 1 to 32 on 64 GPUs."""
    tenants = {f"t{i:02d}": (1 + i % 4, (1, 2, 4, 8, 16, 32)) for i in range(8)}
    weights = {name: weight for name, (weight, _) in tenants.items()}
    history, _ = _run(backlog(tenants, seconds, seed), weights, seed)
    idle, whole = _first(Curves.of(history), seconds).idle_ms(GPUS, backlog=True)
    return {"idle_backlog": idle / whole}


def _run(jobs: tuple[TraceJob, ...], weights: dict[str, int], seed: int) -> tuple[History, Setup]:
    """Estimates are off by what rounds vary: charged at grant, settled at the end."""
    setup = Setup(named("fair", half_life_s=float("inf")), GPUS, ROUND_MS, weights)
    history = simulate(jobs, setup, Noisy(NOISE, seed))
    assert history.violations == 0
    return history, setup


def _first(curves: Curves, seconds: float) -> Curves:
    """Return the curves of the first ``seconds``, in which everybody had work waiting."""
    end = int(np.searchsorted(curves.at_ms, round(seconds * 1000), side="right"))
    kept = curves.column < end
    return Curves(
        curves.at_ms[:end],
        *(values[kept] for values in (curves.column, curves.tenant, curves.held_milli, curves.waiting, curves.granted)),
    )
