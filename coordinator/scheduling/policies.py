"""The four policies: one sort key, three numbers.

The key of an ask is ``(borrowing, fair share, submit + k * left - head start, submit, id)``; the smallest goes first.
A policy only says whether the fair share counts, how much a millisecond of remaining work weighs, and which head start
each class of priority has.  Every policy is also bound by quotas, gangs and reservations, which are no part of the key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import BadInput
from coordinator.scheduling.records import Ask, Policy

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class About:
    """What a policy is set to, what it promises, and how long anyone can be overtaken."""

    fair: bool
    k: float
    head_starts_s: Mapping[str, float]
    half_life_s: float | None
    promise: str
    starvation_bound: str


ABOUT: Mapping[str, About] = {
    "fcfs": About(
        fair=False,
        k=0.0,
        head_starts_s={},
        half_life_s=None,
        promise="Jobs are served in the order in which they were submitted.",
        starvation_bound="Nothing that was submitted later goes first, save what delays nobody (backfill).",
    ),
    "sjf": About(
        fair=False,
        k=4.0,
        head_starts_s={},
        half_life_s=None,
        promise="Jobs with little left go first: the mean time to completion comes near the best possible.",
        starvation_bound="A job is overtaken only by jobs submitted within k x its remaining length after it.",
    ),
    "priority": About(
        fair=False,
        k=0.0,
        head_starts_s={"low": -4 * 3600.0, "normal": 0.0, "high": 4 * 3600.0},
        half_life_s=None,
        promise="A class of priority is a head start in time: high goes before normal that came up to 4 h earlier.",
        starvation_bound="A job is overtaken only by jobs submitted within the difference of the head starts after it; "
        "a class with an infinite head start goes strictly first, and then there is no bound.",
    ),
    "fair": About(
        fair=True,
        k=0.0,
        head_starts_s={},
        half_life_s=7 * DAY_S,
        promise="Tenants that always have work get shares in proportion to their weights, whatever their jobs' sizes.",
        starvation_bound="A tenant waits until the others have used, by weight, as much as it has; use is forgotten by "
        "half each half-life, and idle time is not saved up.",
    ),
}
NAMES = tuple(ABOUT)


def named(
    name: str,
    *,
    k: float | None = None,
    half_life_s: float | None = None,
    head_starts: Mapping[str, float] | None = None,
) -> Policy:
    """Return the policy called ``name`` (fcfs, sjf, priority, fair), with its numbers or the given ones.

    Args:
        name: One of ``NAMES``.
        k: What a unit of remaining work weighs against a unit of waiting; 0 = not at all.
        half_life_s: Seconds after which a use counts half (fair only); ``math.inf`` = nothing is forgotten.
        head_starts: Class of priority -> seconds; ``math.inf`` = strictly first.

    Raises:
        BadInput: there is no such policy, or a number is not one a key can be made of.
    """
    if name not in ABOUT:
        raise BadInput(f"there is no policy {name[:40]!r}", next_step=f"choose one of {', '.join(NAMES)}")
    about = ABOUT[name]
    half_life = about.half_life_s if half_life_s is None else half_life_s
    return checked(
        Policy(
            name=name,
            fair=about.fair,
            k=about.k if k is None else k,
            head_start_ms={
                c: s * 1000.0 for c, s in (about.head_starts_s if head_starts is None else head_starts).items()
            },
            half_life_ms=None if half_life is None or half_life == math.inf else _half_life_ms(half_life),
        )
    )


def checked(policy: Policy) -> Policy:
    """Return ``policy`` if its numbers make a total order.

    Raises:
        BadInput: one of them is not a number, or out of range.
    """
    if not 0.0 <= policy.k <= 1e6:
        raise BadInput(f"k is {policy.k}; it must be between 0 and 1,000,000")
    for klass, head_start in policy.head_start_ms.items():
        if math.isnan(head_start):
            raise BadInput(f"the head start of class {klass[:40]!r} is not a number")
    if policy.half_life_ms is not None and policy.half_life_ms < 1:
        raise BadInput(f"the half-life is {policy.half_life_ms} ms; it must be at least 1 ms")
    if policy.reservations < 0:
        raise BadInput(f"reservations is {policy.reservations}; it must be 0 or more")
    return policy


def slack(policy: Policy, ask: Ask) -> float:
    """Return the ask's place in time, in ms: when it was submitted, put back by its size, forward by its class."""
    return ask.submit_ms + policy.k * ask.left_ms - policy.head_start_ms.get(ask.klass, 0.0)


def _half_life_ms(half_life_s: float) -> int:
    if not 0.001 <= half_life_s <= 1e10:  # NaN fails too
        raise BadInput(f"the half-life is {half_life_s} s; it must be between 0.001 and 10^10 s")
    return round(half_life_s * 1000)
