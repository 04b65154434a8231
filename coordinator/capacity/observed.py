"""What the real queue was seen to do, as the demand that formulas take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from coordinator.capacity.sizing import Demand

FEWEST = 10  # rounds; fewer say nothing about a rate


@dataclass(frozen=True, slots=True)
class Round:
    """One ask of the real queue; times in milliseconds."""

    asked_ms: int
    granted_ms: int | None  # None = still waits
    ended_ms: int | None  # None = still runs
    gang: int  # places held at once: the GPUs of all its tasks, or its tasks where they need none
    gpu: bool = True


@dataclass(frozen=True)
class Observation:
    """What a window of the real queue came to."""

    rounds: int
    gangs: dict[int, int]  # gang -> rounds
    demand: Demand | None  # None = too few rounds to tell
    p_wait: float | None  # share of granted rounds that waited at all
    mean_wait_s: float | None


def observe(rounds: Sequence[Round], gpu: bool) -> Observation:
    """Return what was measured of the rounds that need GPUs (``gpu``), or of those that need none.

    The gang is the mean over rounds, weighted by the time they hold it, rounded up: mixed sizes have no formula.  Who
    was granted within 5 ms did not wait.
    """
    seen = sorted((r for r in rounds if r.gpu == gpu), key=lambda r: r.asked_ms)
    waits = [(r.granted_ms - r.asked_ms) / 1000 for r in seen if r.granted_ms is not None]
    return Observation(
        rounds=len(seen),
        gangs=dict(sorted(Counter(r.gang for r in seen).items())),
        demand=_demand(seen),
        p_wait=sum(wait >= 0.005 for wait in waits) / len(waits) if waits else None,
        mean_wait_s=math.fsum(waits) / len(waits) if waits else None,
    )


def _demand(seen: Sequence[Round]) -> Demand | None:
    gaps = [(b.asked_ms - a.asked_ms) / 1000 for a, b in pairwise(seen)]
    held = [((r.ended_ms - r.granted_ms) / 1000, r.gang) for r in seen if r.granted_ms is not None and r.ended_ms]
    lengths = [length for length, _ in held]
    if len(gaps) < FEWEST or len(lengths) < FEWEST or not sum(gaps) or not sum(lengths):
        return None
    gang = sum(length * size for length, size in held) / sum(lengths)
    return Demand(
        arrivals=len(gaps) / math.fsum(gaps),
        service_s=math.fsum(lengths) / len(lengths),
        gang=max(1, math.ceil(gang - 1e-9)),
        ca2=_variation(gaps),
        cs2=_variation(lengths),
    )


def _variation(values: Sequence[float]) -> float:
    """Return the squared coefficient of variation."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / mean**2
