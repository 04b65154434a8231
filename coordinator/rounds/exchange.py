"""When an exchange closes, whom it waits for, and the sentence that says so.

Fed with events and times, never asks for either.  The verdict depends on the set of events, not on their order:

1. every slot final, or ``target`` sound updates in: close, if the minimum is reached;
2. the deadline or the cut-off passed, or those still missing have been away longer than the grace: close, if the
   minimum is reached;
3. below the minimum after the deadline: a visible wait of ``wait_s``, then abandon;
4. every slot final below the minimum: abandon at once, for nothing can change any more.

An exchange whose app sees replies one by one and asked for itself (``errors_are_replies``) closes in case 4 too: the
app reads the errors, as under Flower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from common.ids import NodeId
from coordinator.rounds.slots import FINAL, OPEN, SlotEvent, SlotState, advance

# Failures that say nothing of the app or its data: the same task may well succeed.
ACCIDENTS = frozenset({"app_crashed", "app_killed", "node_error", "lease_expired", "gpu_lost"})
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Terms:
    """What the job asked of its exchanges; times are seconds on the monotonic clock."""

    minimum: int  # nodes
    target: int  # nodes; 0 = every slot
    deadline: float
    wait_s: float  # seconds below the minimum after the deadline
    grace_s: float  # seconds a node may be away while all others are done
    errors_are_replies: bool = False
    cutoff: float = math.inf  # when stragglers are not waited for any longer, if the minimum is reached


@dataclass(frozen=True)
class Slot:
    """One node's part."""

    slot: int
    node: NodeId
    name: str
    state: SlotState = SlotState.PENDING
    attempts: int = 0
    reason: str = ""  # stable code of a failure, denial or drop
    message: str = ""


@dataclass(frozen=True)
class Wait:
    """Not yet: look again at ``until`` at the latest."""

    until: float
    sentence: str
    stalled: bool  # below the minimum with nobody at work: people should act


@dataclass(frozen=True)
class Close:
    """Fold or answer now, with these slots."""

    included: tuple[int, ...]


@dataclass(frozen=True)
class Abandon:
    """The exchange cannot reach its minimum."""

    sentence: str


Verdict = Wait | Close | Abandon


def _unasked(_slot: int) -> str:
    return "not asked yet"


@dataclass
class ExchangeRound:
    """The slots of one exchange.  ``agreeing`` is how many of the included would be folded together now."""

    terms: Terms
    slots: dict[int, Slot]
    agreeing: int | None = None  # None: every included one
    _order: tuple[int, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        self._order = tuple(sorted(self.slots))

    @property
    def minimum(self) -> int:
        """Return the minimum, at most as many as were asked."""
        return max(1, min(self.terms.minimum, len(self.slots)))

    def apply(self, slot: int, event: SlotEvent, reason: str = "", message: str = "") -> Slot:
        """Move one slot on and return it.

        Raises:
            IllegalTransition: the slot cannot take this event now.
        """
        before = self.slots[slot]
        attempts = before.attempts + (event is SlotEvent.RETRY)
        after = replace(before, state=advance(before.state, event), attempts=attempts, reason=reason, message=message)
        self.slots[slot] = after
        return after

    def fail(self, slot: int, reason: str, message: str) -> Slot:
        """Record a failure: an accident is tried again, a few times; anything else is final."""
        again = reason in ACCIDENTS and self.slots[slot].attempts + 1 < MAX_ATTEMPTS
        return self.apply(slot, SlotEvent.RETRY if again else SlotEvent.FAIL, reason, message)

    def is_final(self, slot: int) -> bool:
        """Say whether nothing can happen to this slot any more."""
        return self.slots[slot].state in FINAL

    def included(self) -> tuple[int, ...]:
        """Return the slots whose update is here, in slot order."""
        return tuple(s for s in self._order if self.slots[s].state is SlotState.INCLUDED)

    def verdict(
        self, now: float, away: Mapping[NodeId, tuple[float, str]], waits_for: Callable[[int], str] = _unasked
    ) -> Verdict:
        """Say whether the exchange closes.

        Args:
            now: Seconds on the monotonic clock.
            away: Nodes that are not connected: (since when on that clock, the same for people, "14:05").
            waits_for: What a slot waits for that has not been offered, for people.
        """
        count = len(self.included()) if self.agreeing is None else self.agreeing
        waiting = [self.slots[s] for s in self._order if self.slots[s].state in OPEN]
        enough = count >= self.minimum
        target = self.terms.target or len(self.slots)
        if not waiting:
            return self._all_final(enough)
        if count >= target:
            return Close(self.included())
        gone = [s for s in waiting if s.node in away]
        patience = self._patience(gone, waiting, away)
        if enough and now >= patience:
            return Close(self.included())
        end = self.terms.deadline + self.terms.wait_s
        if now >= end:
            return Abandon(self._shortage(count, [who(s, away, waits_for) for s in waiting]))
        stalled = not enough and (len(gone) == len(waiting) or now >= self.terms.deadline)
        until = patience if enough else end
        names = ", ".join(who(s, away, waits_for) for s in waiting)
        return Wait(until, self._sentence(count, names, enough=enough), stalled)

    def _all_final(self, enough: bool) -> Verdict:
        if enough or self.terms.errors_are_replies:
            return Close(self.included())
        return Abandon(self._shortage(len(self.included()), []))

    def _patience(self, gone: list[Slot], waiting: list[Slot], away: Mapping[NodeId, tuple[float, str]]) -> float:
        last = min(self.terms.deadline, self.terms.cutoff)
        if len(gone) < len(waiting):
            return last
        return min(last, max(away[s.node][0] for s in gone) + self.terms.grace_s)

    def _shortage(self, count: int, waiting: list[str]) -> str:
        lost = [s for s in self.slots.values() if s.state in FINAL and s.state is not SlotState.INCLUDED]
        parts = [f"{s.name} {s.state}: {s.reason}" + (f" ({_headline(s.message)})" if s.message else "") for s in lost]
        parts += waiting
        if self.agreeing is not None and self.agreeing < len(self.included()):
            parts.append(f"{len(self.included()) - self.agreeing} updates disagree with the others")
        return f"{count} of at least {self.minimum} updates came in; " + "; ".join(parts)

    def _sentence(self, count: int, names: str, *, enough: bool) -> str:
        if enough:
            return f"{count} of {len(self.slots)} updates in; waiting for {names}"
        return f"waiting for {self.minimum - count} more of {self.minimum}: {names}"


def _headline(message: str) -> str:
    """Return what is above the traceback, which stands in the job's log."""
    return message.partition("\n")[0]


def who(slot: Slot, away: Mapping[NodeId, tuple[float, str]], waits_for: Callable[[int], str]) -> str:
    """Return a node's name and what it is doing, for people."""
    if slot.node in away:
        return f"{slot.name} offline since {away[slot.node][1]}"
    if slot.state is SlotState.PENDING:
        return f"{slot.name} ({waits_for(slot.slot)})"
    words = {
        SlotState.OFFERED: "asked",
        SlotState.ACCEPTED: "at work",
        SlotState.READY: "uploading",
    }
    return f"{slot.name} ({words.get(slot.state, str(slot.state))})"


def new_round(terms: Terms, slots: Iterable[tuple[int, NodeId, str]]) -> ExchangeRound:
    """Return an exchange in which nothing has happened yet."""
    return ExchangeRound(terms, {slot: Slot(slot, node, name) for slot, node, name in slots})
