"""First come, first served over the slots of each node.

One pure function, ``decide(state, now) -> decisions``: time is an argument, ties are broken by id, nothing is kept.
A lease is a duration from its grant; one that has run out is ended here, preemption does not exist.  A task never holds
one node's slot while it waits for another's, so nothing can deadlock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from common.ids import JobId, NodeId, TaskId


@dataclass(frozen=True)
class Ask:
    """One task that wants a slot at its node."""

    task: TaskId
    job: JobId
    node: NodeId
    since: float  # seconds; who asked first is served first
    order: int  # of the task inside its exchange
    duration_s: float


@dataclass(frozen=True)
class Lease:
    """A slot of a node, held by a task until a time."""

    task: TaskId
    job: JobId
    node: NodeId
    start: float
    until: float


@dataclass(frozen=True)
class State:
    """What a decision depends on; a node that is away has no slots."""

    asks: tuple[Ask, ...]
    leases: tuple[Lease, ...]
    slots: Mapping[NodeId, int]


@dataclass(frozen=True)
class Start:
    """Grant: the task may be offered to its node."""

    lease: Lease


@dataclass(frozen=True)
class Hold:
    """Not now, and why."""

    ask: Ask
    reason: str


@dataclass(frozen=True)
class Expire:
    """The lease has run out; its task has failed."""

    lease: Lease


Decision = Start | Hold | Expire


def decide(state: State, now: float) -> tuple[Decision, ...]:
    """Return what to do now: expired leases, then grants and refusals in the order of the asks."""
    expired = sorted((lease for lease in state.leases if lease.until <= now), key=lambda lease: lease.task)
    held = Counter(lease.node for lease in state.leases if lease.until > now)
    holders = {lease.task for lease in state.leases if lease.until > now}
    decisions: list[Decision] = [Expire(lease) for lease in expired]
    for ask in sorted(state.asks, key=lambda a: (a.since, a.job, a.order, a.task)):
        if ask.task in holders:
            continue
        slots = state.slots.get(ask.node, 0)
        if slots <= 0:
            decisions.append(Hold(ask, "the node is away"))
        elif held[ask.node] >= slots:
            decisions.append(Hold(ask, f"all {slots} slots of the node are taken"))
        else:
            held[ask.node] += 1
            holders.add(ask.task)
            decisions.append(Start(Lease(ask.task, ask.job, ask.node, now, now + ask.duration_s)))
    return tuple(decisions)


def apply(state: State, decisions: tuple[Decision, ...]) -> State:
    """Return the state after ``decisions``: what was granted is a lease, what expired is gone."""
    started = tuple(d.lease for d in decisions if isinstance(d, Start))
    gone = {d.lease.task for d in decisions if isinstance(d, Expire)}
    granted = {lease.task for lease in started}
    return State(
        tuple(a for a in state.asks if a.task not in granted),
        tuple(lease for lease in state.leases if lease.task not in gone) + started,
        state.slots,
    )
