"""What a run came to, as one plain record: the figures people compare policies by.

Times of jobs: completion (JCT) is submission to end, the wait is what of it the job did not run, the slowdown is
completion over length, where lengths under ten seconds count as ten (a job of one second that waited a minute is not
sixty times worse off than one of a minute).

Source:
    Feitelson et al. 1997, "Theory and Practice in Parallel Job Scheduling" (bounded slowdown).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from coordinator.scheduling.simulate.engine import History, Outcome, Setup
from coordinator.scheduling.simulate.shares import Curves, fairness_gap

BOUND_MS = 10_000
HOUR_MS = 3_600_000
FIGURES = ("mean_jct_s", "p50_jct_s", "p99_jct_s", "mean_slowdown", "p99_slowdown", "mean_wait_s", "longest_wait_s",
           "longest_wait_job")  # fmt: skip
Record = dict[str, object]


def report(history: History, setup: Setup) -> Record:
    """Return the figures of a run; what was not observed is None, never zero."""
    outcomes = history.outcomes
    curves = Curves.of(history)
    idle, whole = curves.idle_ms(setup.gpus, backlog=False)
    idle_backlog, backlog = curves.idle_ms(setup.gpus, backlog=True)
    weights = np.array([setup.weights.get(name, 1) for name in history.tenants], float)
    return {
        "jobs": len(outcomes) + len(history.never),
        "finished": len(outcomes),
        "never_fits": len(history.never),
        "gpu_hours": _gpu_hours(outcomes),
        "makespan_s": _seconds(int(curves.at_ms[-1] - curves.at_ms[0])) if len(curves.at_ms) else 0.0,
        **_figures(outcomes),
        "idle_share": idle / whole if whole else None,
        "idle_share_backlog": idle_backlog / backlog if backlog else None,
        "backlog_s": backlog / (setup.gpus * 1e6),
        "fairness_gap_quanta": fairness_gap(curves, weights, quantum(history, setup)) if outcomes else None,
        "decisions": history.decisions,
        "violations": history.violations,
        "tenants": _tenants(history, setup),
    }


def quantum(history: History, setup: Setup) -> float:
    """Return the largest single grant over its tenant's weight, in milli-GPU milliseconds."""
    weights = np.array([setup.weights.get(name, 1) for name in history.tenants], float)
    granted = np.array(history.granted, float)
    return float((granted / weights[np.array(history.tenant, np.int64)]).max(initial=0.0)) or 1.0


def _tenants(history: History, setup: Setup) -> list[Record]:
    of: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in history.outcomes:
        of[outcome.job.tenant].append(outcome)
    whole = _gpu_hours(history.outcomes)
    rows: list[Record] = [
        {
            "tenant": name,
            "weight": setup.weights.get(name, 1),
            "jobs": len(of[name]),
            "gpu_hours": _gpu_hours(of[name]),
            "share": _gpu_hours(of[name]) / whole if whole else 0.0,
            **_figures(of[name]),
        }
        for name in history.tenants
    ]
    return sorted(rows, key=lambda row: (-float(str(row["gpu_hours"])), str(row["tenant"])))


def _figures(outcomes: Sequence[Outcome]) -> Record:
    if not outcomes:
        return dict.fromkeys(FIGURES)
    jct = np.array([o.completion_ms for o in outcomes], float)
    waits = np.array([o.waited_ms for o in outcomes], float)
    slowdown = np.maximum(1.0, jct / np.maximum([o.job.length_ms for o in outcomes], BOUND_MS))
    longest = outcomes[int(waits.argmax())]
    return {
        "mean_jct_s": math.fsum(jct) / len(jct) / 1000,
        "p50_jct_s": _ranked(jct, 0.50) / 1000,
        "p99_jct_s": _ranked(jct, 0.99) / 1000,
        "mean_slowdown": math.fsum(slowdown) / len(slowdown),
        "p99_slowdown": _ranked(slowdown, 0.99),
        "mean_wait_s": math.fsum(waits) / len(waits) / 1000,
        "longest_wait_s": _seconds(longest.waited_ms),
        "longest_wait_job": {"id": longest.job.id, "line": longest.job.line, "tenant": longest.job.tenant},
    }


def _ranked(values: np.typing.NDArray[np.float64], share: float) -> float:
    """Return the smallest value that ``share`` of the values do not pass (nearest rank)."""
    return float(np.partition(values, (at := math.ceil(share * len(values)) - 1))[at])


def _gpu_hours(outcomes: Sequence[Outcome]) -> float:
    return sum(o.job.length_ms * o.job.gpus * o.job.milli for o in outcomes) / (1000 * HOUR_MS)


def _seconds(milliseconds: int) -> float:
    return milliseconds / 1000
