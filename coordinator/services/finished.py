"""What a ServerApp hands over at its end, or has trained so far."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.services.objects import HeldObject


@dataclass(frozen=True)
class Finished:
    """Arrays and metrics of a ServerApp."""

    result: HeldObject | None
    metrics: dict[str, float]
    round: int = 0  # that the arrays are of; 0: the job's last
