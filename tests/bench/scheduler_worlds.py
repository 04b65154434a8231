"""Pools under constant load, made by seed: what fairness and idleness are measured on."""

from __future__ import annotations

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
ROUND_MS = 60_000  # longest
SPARE = 1.25  # work beyond what fits into the time, so that nobody runs dry


def backlog(
    tenants: dict[str, tuple[int, tuple[int, ...]]], seconds: float, seed: int, hole: float = 1.0
) -> tuple[TraceJob, ...]:
    """Return jobs of one round each, all there from the start: for every tenant (weight, gangs) more than it can get.

    Args:
        tenants: Name -> (weight, sizes of its gangs).
        seconds: How long everybody must have work.
        seed: Of lengths and sizes.
        hole: Share of the pool that is used at worst.
    """
    draw = random.Random(seed)
    weights = sum(weight for weight, _ in tenants.values())
    jobs: list[TraceJob] = []
    for name, (weight, gangs) in tenants.items():
        budget = GPUS * seconds * 1000 * weight / weights * SPARE * hole
        # Beyond its share, so many asks wait that one pass cannot start them all.
        while budget > 0 or sum(job.tenant == name for job in jobs[-200:]) < 2 * GPUS:
            gang = draw.choice(gangs)
            length = round(min(ROUND_MS, max(5_000.0, draw.lognormvariate(0, 0.5) * 30_000)))
            jobs.append(TraceJob("", 0, name, 0, gang, 1000, length, "normal", None))
            budget -= gang * length
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
    """Estimates are wrong by a factor e^0.5: charged at grant, settled at the end."""
    setup = Setup(named("fair", half_life_s=float("inf")), GPUS, ROUND_MS, weights)
    history = simulate(jobs, setup, Noisy(0.5, seed))
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
