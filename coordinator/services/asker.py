"""What those who ask the scheduler for an exchange need of it."""

from __future__ import annotations

from typing import Protocol

from common.ids import NodeId
from coordinator.domain.jobs import Job
from coordinator.rounds.exchange import ExchangeRound
from coordinator.rounds.slots import SlotEvent
from coordinator.scheduling.records import Lease
from coordinator.services.calls import Call


class Asker(Protocol):
    """The exchange: what it wants sent, and what it is told."""

    job: Job
    seq: int
    call: Call
    round: ExchangeRound
    ready: set[NodeId]  # nodes that can be offered a task now

    def offer(self, slot: int, lease: Lease) -> None:
        """Send the task of a slot under its lease."""
        ...

    def ended(self, slot: int, event: SlotEvent, reason: str, message: str) -> object:
        """Move a slot to its end."""
        ...

    def lost(self, slot: int, reason: str) -> None:
        """A lease ended before the task of this slot did."""
        ...

    def begun(self, cutoff_s: float | None) -> None:
        """The round has got its nodes; stragglers need not be waited for longer than ``cutoff_s``."""
        ...

    def time_s(self) -> float:
        """Return the seconds that the round may take."""
        ...

    def left_s(self) -> float:
        """Return the seconds to the end of the round's time."""
        ...
