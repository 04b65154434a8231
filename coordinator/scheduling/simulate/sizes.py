"""What the scheduler believes is left of a job: the truth, what was learned, or nothing at all.

Beliefs only ever enter through the size in the key and the charge at grant, capped by what the job declared: they can
make the order worse, never a promise untrue.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from coordinator.scheduling.simulate.trace import TraceJob

SIZES = ("true", "learned", "attained", "noisy")


class Sizes(Protocol):
    """Estimates what is left, in milliseconds."""

    def left_ms(self, job: TraceJob, attained_ms: int) -> int:
        """Return the estimate for a job that has run for ``attained_ms``."""
        ...

    def finished(self, job: TraceJob) -> None:
        """Learn from a job that has ended."""
        ...


@dataclass(frozen=True)
class TrueSizes:
    """An oracle; with a large k this is shortest remaining processing time (SRPT)."""

    def left_ms(self, job: TraceJob, attained_ms: int) -> int:
        return job.length_ms - attained_ms

    def finished(self, job: TraceJob) -> None:
        """Nothing is learned."""


@dataclass(frozen=True)
class Attained:
    """What a job has had stands for what it will need; with a large k this is least attained service (LAS)."""

    def left_ms(self, job: TraceJob, attained_ms: int) -> int:
        del job
        return attained_ms

    def finished(self, job: TraceJob) -> None:
        """Nothing is learned."""


@dataclass(frozen=True)
class Noisy:
    """The true length times a log-normal error, drawn once for each job.

    Args:
        sigma: Standard deviation of the logarithm; 1 = wrong by a factor of 2.7.
        seed: Of the errors.
    """

    sigma: float
    seed: int

    def left_ms(self, job: TraceJob, attained_ms: int) -> int:
        # Text seeds are hashed by their bytes: the same error in every process, whatever order jobs are asked for in.
        error = math.exp(random.Random(f"{self.seed}/{job.id}").gauss(0.0, self.sigma))  # noqa: S311 - no secret
        return max(0, min(round(job.length_ms * error), 2**53) - attained_ms)

    def finished(self, job: TraceJob) -> None:
        """Nothing is learned."""


_BINS = 64  # of the logarithm of a length, from 10 s to 116 days
_FIRST = math.log(10_000.0)
_WIDTH = (math.log(1e10) - _FIRST) / _BINS
_MIDDLES = tuple(math.exp(_FIRST + (i + 0.5) * _WIDTH) for i in range(_BINS))
_BELIEF = 10.0  # finished jobs that a wider group counts for in a narrower one
_UNKNOWN_MS = 3_600_000


@dataclass
class Learned:
    """Learns how long jobs of the same tenant and size took; what is left is the Gittins rank.

    That is the least, over all x, of (mean time spent when stopping after x more) / (chance to have ended by then): the
    price of one completion.  It is small for a fresh job of a group with many short ones, and grows once a job has
    outlived them.  Counts of (tenant, size) lean on those of the size, and those on all.

    Source:
        Gittins 1979; for heavy tails: Aalto, Ayesta, Righter 2009, "On the Gittins index in the M/G/1 queue".
    """

    counts: dict[tuple[object, ...], list[float]] = field(default_factory=dict)
    _ranks: dict[tuple[object, ...], tuple[float, int]] = field(default_factory=dict)

    def left_ms(self, job: TraceJob, attained_ms: int) -> int:
        group = _groups(job)[-1]
        bin_ = _bin(attained_ms) if attained_ms >= _MIDDLES[0] else -1
        known = sum(self.counts.get(group, ()))
        at, rank = self._ranks.get((*group, bin_), (-1.0, 0))
        if at < 0 or known > at * 1.05 + 1:  # one more of many changes nothing
            rank = self._rank(job, attained_ms)
            self._ranks[*group, bin_] = (known, rank)
        return rank

    def finished(self, job: TraceJob) -> None:
        for group in _groups(job):
            self.counts.setdefault(group, [0.0] * _BINS)[_bin(job.length_ms)] += 1.0

    def _rank(self, job: TraceJob, attained_ms: int) -> int:
        shares = self._shares(job)
        ahead = [(_MIDDLES[i] - attained_ms, shares[i]) for i in range(_BINS) if _MIDDLES[i] > attained_ms]
        alive = sum(share for _, share in ahead)
        if alive < 1e-9:
            return max(attained_ms, _UNKNOWN_MS)  # outlived all that were ever seen
        best, ended, spent = math.inf, 0.0, 0.0
        for more, share in ahead:
            ended += share
            spent += more * share
            if ended > 0:
                best = min(best, (spent + more * (alive - ended)) / ended)
        return round(best)

    def _shares(self, job: TraceJob) -> list[float]:
        mixed = [0.0] * _BINS
        for group in _groups(job):
            counts = self.counts.get(group)
            if counts:
                whole = sum(counts)
                mixed = [(n + _BELIEF * share) / (whole + _BELIEF) for n, share in zip(counts, mixed, strict=True)]
        return mixed


def _groups(job: TraceJob) -> tuple[tuple[object, ...], ...]:
    return (), (job.gpus,), (job.gpus, job.tenant)


def _bin(length_ms: int) -> int:
    return max(0, min(_BINS - 1, int((math.log(max(length_ms, 1)) - _FIRST) / _WIDTH)))


def sizes_named(name: str, *, seed: int = 0, sigma: float = 1.0) -> Sizes:
    """Return the estimator called ``name``, one of ``SIZES``; a new one each time, since some learn."""
    made: dict[str, Callable[[], Sizes]] = {
        "true": TrueSizes,
        "learned": Learned,
        "attained": Attained,
        "noisy": lambda: Noisy(sigma, seed),
    }
    return made[name]()
