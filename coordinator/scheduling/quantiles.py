"""How long a round will take at a node: quantiles learned online, one pair (node, job) from its row and its column.

With y = log(seconds), the centre of a pair is  y ≈ level + job + node:  a job is long everywhere, a node slow in every
job.  So a node that never ran a job is foretold from both, which means per job cannot do.  Each effect carries how
unsure it is, and a round's surprise is shared out by that (a Kalman gain): a new node moves, a known job stays, what
rests on little is drawn to zero.  The late quantile adds a margin, raised by η·0.95 whenever a round is later than
foretold and lowered by η·0.05 when it is not: the share of late rounds comes out as 1 - 0.95 whatever the noise is, and
again after it has changed.

Estimates never promise: they order, charge and cut off, always under the cap that the job declared.

Source:
    Gibbs and Candès 2021, "Adaptive Conformal Inference Under Distribution Shift" (the margin's step).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.ids import JobId, NodeId

LATE = 0.95
_NOISE = 0.1  # variance of a round about its pair's centre, in log seconds; only weighs new against known
_DRIFT = 0.002  # variance that an effect gains with each round, so that it never stops following
_CLIP = 1.5  # deviations: one stalled round moves an effect no further than a slow one
_MEMORY = 30.0  # rounds after which a node's margin follows as fast as it ever will
_STEP = 0.05  # η of the shared margin
_OWN_STEP = 0.10  # η of a node's own margin, while it is new
_SHORTEST, _LONGEST = 1e-3, 1e8  # seconds


@dataclass
class _Effect:
    """One effect and how unsure it is (a variance); the first guess is zero, give or take a factor e."""

    value: float = 0.0
    unsure: float = 1.0

    def learn(self, residual: float, whole: float) -> None:
        gain = self.unsure / whole
        self.value += gain * residual
        self.unsure = self.unsure * (1.0 - gain) + _DRIFT


@dataclass
class RoundTimes:
    """Learned round times; a few floats for each node and each job."""

    level: _Effect = field(default_factory=lambda: _Effect(0.0, 100.0))
    margin: float = math.log(2.0)
    seen: int = 0
    jobs: dict[str, _Effect] = field(default_factory=dict)
    nodes: dict[str, _Effect] = field(default_factory=dict)
    margins: dict[str, tuple[float, float]] = field(
        default_factory=dict
    )  # of a node, beyond the shared one: (log s, rounds)

    def observe(self, node: NodeId, job: JobId, seconds: float) -> None:
        """Learn that ``job``'s round took ``seconds`` at ``node``; what is no positive number teaches nothing."""
        if not 0 < seconds < math.inf:
            return
        residual = math.log(min(max(seconds, _SHORTEST), _LONGEST)) - self._centre(node, job)
        if self.seen:
            self._learn_margin(node, residual)
        self.seen += 1
        effects = (self.level, self.jobs.setdefault(job, _Effect()), self.nodes.setdefault(node, _Effect()))
        whole = sum(effect.unsure for effect in effects) + _NOISE
        furthest = _CLIP * math.sqrt(whole)
        for effect in effects:
            effect.learn(max(-furthest, min(furthest, residual)), whole)

    def median(self, node: NodeId, job: JobId) -> float | None:
        """Return the seconds that half of the rounds do not pass; None while nothing was ever observed."""
        return math.exp(self._centre(node, job)) if self.seen else None

    def late(self, node: NodeId, job: JobId) -> float | None:
        """Return the seconds that 95 % of the rounds do not pass; None while nothing was ever observed."""
        return math.exp(self._centre(node, job) + self._margin(node)) if self.seen else None

    def forget_job(self, job: JobId) -> None:
        """Drop what is known of a job that has ended."""
        self.jobs.pop(job, None)

    def forget_node(self, node: NodeId) -> None:
        """Drop what is known of a node that is gone for good."""
        self.nodes.pop(node, None)
        self.margins.pop(node, None)

    def _centre(self, node: str, job: str) -> float:
        by_job, by_node = self.jobs.get(job), self.nodes.get(node)
        return self.level.value + (by_job.value if by_job else 0.0) + (by_node.value if by_node else 0.0)

    def _margin(self, node: str) -> float:
        return max(0.0, self.margin + self.margins.get(node, (0.0,))[0])

    def _learn_margin(self, node: str, residual: float) -> None:
        step = LATE if residual > self._margin(node) else LATE - 1
        own, rounds = self.margins.get(node, (0.0, 0.0))
        self.margins[node] = (own + _OWN_STEP / math.sqrt(rounds + 1) * step, min(rounds + 1, _MEMORY))
        self.margin = max(0.0, self.margin + _STEP * step)

    def record(self) -> dict[str, object]:
        """Return everything as plain values, for the store."""
        return {
            "level": [self.level.value, self.level.unsure],
            "margin": self.margin,
            "seen": self.seen,
            "jobs": {k: [e.value, e.unsure] for k, e in self.jobs.items()},
            "nodes": {k: [e.value, e.unsure] for k, e in self.nodes.items()},
            "margins": {k: list(pair) for k, pair in self.margins.items()},
        }

    @classmethod
    def restore(cls, record: Mapping[str, Any]) -> RoundTimes:
        """Return what ``record`` was made of."""
        jobs, nodes = ({k: _Effect(*pair) for k, pair in record[name].items()} for name in ("jobs", "nodes"))
        margins = {k: (pair[0], pair[1]) for k, pair in record["margins"].items()}
        return cls(_Effect(*record["level"]), record["margin"], record["seen"], jobs, nodes, margins)
