"""The same queue without a formula: customers one by one through c servers, first come first served.

Each customer takes the server that is free first (the recursion of Kiefer and Wolfowitz, as a heap), so a hundred
thousand cost a fraction of a second.  Lengths are log-normal and gaps gamma distributed with the mean and variation of
the demand, or drawn from what was measured.  Deterministic by seed.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.capacity.sizing import QUANTILES, Demand

CUSTOMERS = 200_000
SEARCHED = 50_000  # with each number of servers that is tried
_WARM = 0.1  # the share at the beginning that is not counted: the queue starts empty
_BATCHES = 20
Real = NDArray[np.float64]


@dataclass(frozen=True)
class Simulated:
    """What a run came to; waits in seconds."""

    servers: int
    customers: int
    p_wait: float
    wq: float
    wq_error: float  # half of the 95 % interval of wq, by batch means
    waits: dict[str, float]


def gaps_and_lengths(demand: Demand, customers: int, seed: int) -> tuple[Real, Real]:
    """Return the seconds between arrivals and the seconds of service of ``customers``."""
    random = np.random.default_rng(seed)
    gaps = np.full(customers, 1 / demand.arrivals)
    if demand.ca2 > 0:
        gaps = random.gamma(1 / demand.ca2, demand.ca2 / demand.arrivals, customers)
    if demand.cs2 == 1.0:
        return gaps, random.exponential(demand.service_s, customers)
    sigma2 = math.log1p(demand.cs2)
    return gaps, random.lognormal(math.log(demand.service_s) - sigma2 / 2, math.sqrt(sigma2), customers)


def waits_of(gaps: Sequence[float] | Real, lengths: Sequence[float] | Real, servers: int) -> Real:
    """Return each customer's wait in seconds; the first comes after the first gap, to ``servers`` idle servers."""
    free = [0.0] * servers
    now = 0.0
    waits = np.empty(len(gaps))
    for i, (gap, length) in enumerate(zip(gaps, lengths, strict=True)):
        now += gap
        start = max(now, free[0])
        waits[i] = start - now
        heapq.heapreplace(free, start + length)
    return waits


def simulated(demand: Demand, gpus: int, *, customers: int = CUSTOMERS, seed: int = 0) -> Simulated:
    """Return what ``customers`` of ``demand`` met on ``gpus``; at least one gang must fit."""
    return judge(waits_of(*gaps_and_lengths(demand, customers, seed), gpus // demand.gang), gpus // demand.gang)


def judge(waits: Real, servers: int) -> Simulated:
    """Return the figures of a run, its beginning left out."""
    counted = waits[int(len(waits) * _WARM) :]
    means = [float(batch.mean()) for batch in np.array_split(counted, _BATCHES)]
    return Simulated(
        servers=servers,
        customers=len(waits),
        p_wait=float((counted > 0).mean()),
        wq=float(counted.mean()),
        wq_error=2.093 * float(np.std(means, ddof=1)) / math.sqrt(_BATCHES),  # Student's t, 19 degrees of freedom
        waits={name: float(np.quantile(counted, share)) for name, share in QUANTILES.items()},
    )


def simulated_gpus_for(demand: Demand, wait_s: float, share: float, *, seed: int = 0) -> int:
    """Return the fewest GPUs at which ``share`` of the simulated customers wait at most ``wait_s``.

    The same customers meet every number of servers, so more servers never make anyone wait longer.
    """
    gaps, lengths = gaps_and_lengths(demand, SEARCHED, seed)

    def enough(servers: int) -> bool:
        waits = waits_of(gaps, lengths, servers)[int(SEARCHED * _WARM) :]
        return float(np.quantile(waits, share)) <= wait_s

    few = math.floor(demand.load)  # cannot keep up
    step = max(1, math.isqrt(few))
    while not enough(few + step):
        few, step = few + step, 2 * step
    many = few + step
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many * demand.gang
