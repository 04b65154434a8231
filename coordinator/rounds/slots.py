"""A slot is one node's part of an exchange; its life is a table.

Rule: everything that decides which state follows which is in ``TRANSITIONS``; everything else calls ``advance``.
"""

from __future__ import annotations

from enum import StrEnum

from common.errors import IllegalTransition


class SlotState(StrEnum):
    """Where one node's part of an exchange is."""

    PENDING = "pending"  # not offered: no lease yet, or the node is away
    OFFERED = "offered"
    ACCEPTED = "accepted"  # the node holds the task, its lease clock runs
    READY = "ready"  # the update is kept at the node and on its way
    INCLUDED = "included"  # the update is here and sound; it counts unless it disagrees with the others
    FAILED = "failed"
    DENIED = "denied"
    DROPPED = "dropped"  # the update was bad
    LATE = "late"  # the exchange closed without it


class SlotEvent(StrEnum):
    """What may happen to a slot."""

    OFFER = "offer"
    WITHDRAW = "withdraw"  # the node went away: offer again when it is back
    ACCEPT = "accept"
    READY = "ready"
    TAKE = "take"
    FAIL = "fail"
    RETRY = "retry"  # failed by an accident that may not happen again
    DENY = "deny"
    DROP = "drop"
    CLOSE = "close"
    REOPEN = "reopen"  # its part must be given again: the masked sum it was for has come to nothing


_S, _E = SlotState, SlotEvent
OPEN = frozenset({_S.PENDING, _S.OFFERED, _S.ACCEPTED, _S.READY})
FINAL = frozenset(_S) - OPEN
TRANSITIONS: dict[tuple[SlotState, SlotEvent], SlotState] = {
    **{(s, _E.OFFER): _S.OFFERED for s in (_S.PENDING, _S.OFFERED, _S.ACCEPTED, _S.READY)},
    **{(s, _E.WITHDRAW): _S.PENDING for s in OPEN},
    **{(s, _E.ACCEPT): _S.ACCEPTED for s in (_S.PENDING, _S.OFFERED, _S.ACCEPTED)},
    (_S.READY, _E.ACCEPT): _S.READY,  # a progress report that was overtaken
    **{(s, _E.READY): _S.READY for s in OPEN},
    **{(s, _E.TAKE): _S.INCLUDED for s in OPEN},
    **{(s, _E.FAIL): _S.FAILED for s in OPEN},
    **{(s, _E.RETRY): _S.PENDING for s in OPEN},
    **{(s, _E.DENY): _S.DENIED for s in OPEN},
    **{(s, _E.DROP): _S.DROPPED for s in (*OPEN, _S.INCLUDED)},
    **{(s, _E.CLOSE): _S.LATE for s in OPEN},
    (_S.INCLUDED, _E.REOPEN): _S.PENDING,
}


def advance(state: SlotState, event: SlotEvent) -> SlotState:
    """Return the state that follows.

    Raises:
        IllegalTransition: the table has no such row.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"a {state} slot cannot {event}") from None
