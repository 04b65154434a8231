"""From what a person asks for to a setup: classes of priority, yardsticks, and how many GPUs if nobody says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from common.errors import BadInput
from coordinator.scheduling.policies import ABOUT, named
from coordinator.scheduling.records import Policy
from coordinator.scheduling.simulate.trace import TraceJob

HOUR_S = 3600.0
ONLY_SIZE = 1e6  # k: a second of size outweighs eleven days of waiting
# What policies are measured against.  They are no policies one can choose for a service: nothing bounds the wait.
YARDSTICKS: Mapping[str, str] = {"srpt": "true", "las": "attained"}  # name -> what is believed of sizes


def policy_of(
    name: str,
    jobs: Sequence[TraceJob],
    *,
    k: float | None = None,
    half_life_s: float | None = None,
    head_starts_s: Mapping[str, float] | None = None,
) -> Policy:
    """Return the policy called ``name`` for the classes that ``jobs`` have.

    A class that is a number has that many hours of head start, unless ``head_starts_s`` says otherwise.

    Raises:
        BadInput: there is no such policy, or a class has no head start where classes count.
    """
    if name in YARDSTICKS:
        return named("sjf", k=ONLY_SIZE if k is None else k)
    policy = named(name, k=k, half_life_s=half_life_s)
    starts = {c: s / 1000 for c, s in policy.head_start_ms.items()} | dict(head_starts_s or {})
    if not ABOUT[name].head_starts_s and not head_starts_s:
        return policy
    for job in jobs:
        if job.priority not in starts:
            starts[job.priority] = _hours(job) * HOUR_S
    return named(name, k=k, half_life_s=half_life_s, head_starts=starts)


def _hours(job: TraceJob) -> float:
    try:
        return float(job.priority)
    except ValueError:
        raise BadInput(
            f"line {job.line}: class {job.priority[:40]!r} has no head start",
            next_step=f"Give it one: --head-start {job.priority[:40]}=SECONDS",
            code="bad_trace",
        ) from None


def gpus_for_load(jobs: Sequence[TraceJob], load: float = 0.9) -> int:
    """Return the GPUs that ``jobs`` keep busy for a share ``load`` of the time in which they come; at least the largest
    gang.
    """
    work = sum(job.length_ms * job.gpus * job.milli for job in jobs) / 1000
    span = jobs[-1].submit_ms - jobs[0].submit_ms
    largest = max(job.gpus for job in jobs)
    return max(largest, math.ceil(work / (span * load)) if span else largest)
