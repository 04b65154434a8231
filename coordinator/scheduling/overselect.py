"""How many nodes a round should ask for, and when it should stop waiting.

A round that wants m updates and asks m nodes waits for the slowest of them and fails with the first that drops out.  So
it asks n > m and closes with the first m: at least so many that P(at least m complete) ≥ 0.95, and further ones only
while they shorten the round by more than the GPUs they hold are worth.  The cut-off is the time at which m updates are
in with that same probability: who is not there by then is not waited for.

Nodes are unequal, so the number that completes is Poisson-binomial, computed exactly; a node's time is log-normal
through its learned median and 95 % quantile.

Source:
    Bonawitz et al. 2019, "Towards Federated Learning at Scale" (over-selection by 30 %); Hong 2013, "On computing the
    distribution function for the Poisson binomial distribution" (the recursion).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.ids import NodeId

SURE = 0.95
_Z95 = 1.6448536269514722  # of the normal distribution
_FADE = 0.98  # of what a node has shown, with each round
_PRIOR = (9.5, 10.0)  # completed of asked: a node is believed in until it has shown otherwise
_GRID = 96  # times at which a plan looks
_WORTH = 0.5  # what a round may cost in GPU time to be shorter: half a spare's share
_SPARES = 1.3  # times m: as many as others ask, unless it takes more to be sure
_EXACT = 200  # updates up to which the count is exact; beyond, normal with a continuity correction


@dataclass(frozen=True, slots=True)
class Prospect:
    """What is known of one node for one job."""

    median_s: float  # > 0
    late_s: float  # 95 % quantile, ≥ median_s
    completes: float = 1.0  # probability that a round given to it ends with an accepted update


@dataclass(frozen=True, slots=True)
class Selection:
    """Ask the first ``n`` nodes, stop waiting after ``cutoff_s``."""

    n: int
    cutoff_s: float
    expected_s: float  # mean length of the round
    sure: float  # P(at least m updates by the cut-off)


def at_least(completes: Sequence[float], m: int) -> float:
    """Return P(at least ``m`` of the nodes complete), each on its own with its probability."""
    counts = np.zeros(max(m, 0) + 1)
    counts[0] = 1.0
    for p in completes:
        counts = _one_more(counts, p)
    return float(counts[-1])


def enough(completes: Sequence[float], m: int, sure: float = SURE) -> int | None:
    """Return the smallest n such that at least ``m`` of the first n nodes complete with probability ``sure``.

    None: not even all of them are enough.
    """
    counts = np.zeros(max(m, 0) + 1)
    counts[0] = 1.0
    for n, p in enumerate([0.0, *completes]):
        counts = _one_more(counts, p)
        if n >= m and counts[-1] >= sure:
            return n
    return None


def _one_more(counts: NDArray[np.float64], p: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return P(0), …, P(m - 1), P(≥ m) after one more node; the last entry keeps what it has."""
    moved = counts * p
    after = counts - moved
    after[1:] += moved[:-1]
    after[-1] += moved[-1]
    return after


def select(prospects: Sequence[Prospect], m: int, bound_s: float, most: int | None = None) -> Selection:
    """Return how many of ``prospects``, in their order, to ask for ``m`` updates, and when to stop waiting.

    The n of least (mean round) × (1 + half of the spares' share), among those that are sure enough; where none is, all
    that may be asked, until ``bound_s``.

    Args:
        prospects: The nodes in the order the scheduler would pick them.
        m: Updates wanted, ≥ 1.
        bound_s: The longest that the job lets a round take, seconds, > 0.
        most: Ask no more than so many; by default 1.3 m, or what it takes to be sure.
    """
    if most is None:
        most = max(math.ceil(_SPARES * m), enough([p.completes for p in prospects], m) or len(prospects))
    allowed = prospects[: max(m, most)]
    if len(allowed) < m:
        return Selection(len(allowed), bound_s, bound_s, 0.0)
    times = _times(allowed, bound_s)
    done = np.array([_done_by(prospect, times) for prospect in allowed])
    found = [_judge(n, sure, times) for n, sure in enumerate(_enough_by(done, m), start=m)]
    sure = [one for one in found if one.sure >= SURE]
    return min(sure, key=lambda one: (one.expected_s * (1 + _WORTH * (one.n - m) / m), one.n), default=found[-1])


def _times(prospects: Sequence[Prospect], bound_s: float) -> NDArray[np.float64]:
    """Return times to look at: dense where rounds end, and the bound last."""
    first = min(min(p.median_s for p in prospects) / 3, bound_s / 2)
    last = min(max(p.late_s for p in prospects) * 2, bound_s)
    return np.unique(np.append(np.geomspace(first, max(last, first * 1.01), _GRID), bound_s))


def _done_by(prospect: Prospect, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return P(the node has sent its update) at each time."""
    sigma = max(math.log(max(prospect.late_s / prospect.median_s, 1.0)) / _Z95, 1e-3)
    return prospect.completes * _normal(np.log(times / prospect.median_s) / sigma)


def _enough_by(done: NDArray[np.float64], m: int) -> Iterator[NDArray[np.float64]]:
    """Yield P(at least ``m`` updates) at each time for the first m, m + 1, … nodes; ``done`` is (nodes, times)."""
    if m > _EXACT:
        mean, variance = np.cumsum(done, axis=0), np.cumsum(done * (1 - done), axis=0)
        yield from _normal((mean - m + 0.5) / np.sqrt(np.maximum(variance, 1e-12)))[m - 1 :]
        return
    counts = np.zeros((m + 1, done.shape[1]))
    counts[0] = 1.0
    for n, p in enumerate(done, start=1):
        counts = _one_more(counts, p)
        if n >= m:
            yield counts[-1]


def _normal(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = [0.5 * math.erfc(-score / math.sqrt(2)) for score in scores.ravel().tolist()]
    return np.array(flat).reshape(scores.shape)


def _judge(n: int, enough_by: NDArray[np.float64], times: NDArray[np.float64]) -> Selection:
    """Return the earliest sure cut-off and the mean of the round that ends with m updates or there."""
    sure = np.flatnonzero(enough_by >= SURE)
    at = int(sure[0]) if len(sure) else len(times) - 1
    still = 1.0 - np.concatenate(([0.0], enough_by[: at + 1]))
    ends = np.concatenate(([0.0], times[: at + 1]))
    expected = float(np.sum((still[1:] + still[:-1]) / 2 * np.diff(ends)))
    return Selection(n, float(times[at]), expected, float(enough_by[at]))


@dataclass
class Completions:
    """How often each node brings a round to an accepted update: a share that forgets, drawn to everyone's.

    Spares that were not needed and rounds that were cancelled say nothing about a node: do not report them.
    """

    done: dict[str, tuple[float, float]] = field(default_factory=dict)  # node -> (completed, asked), both fading

    def observe(self, node: NodeId, completed: bool) -> None:
        """Learn the outcome of one task."""
        good, asked = self.done.get(node, (0.0, 0.0))
        self.done[node] = (good * _FADE + completed, asked * _FADE + 1)

    def of(self, node: NodeId) -> float:
        """Return the probability that ``node`` completes a round."""
        good, asked = self.done.get(node, (0.0, 0.0))
        return (good + _PRIOR[0]) / (asked + _PRIOR[1])
