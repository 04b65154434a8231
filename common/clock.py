"""Time as an argument."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Guarantees: (1) ``monotonic`` never goes back; (2) ``now`` is UTC seconds since 1970 and may jump."""

    def now(self) -> float:
        """Return UTC seconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Return UTC seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start."""
        return time.monotonic()


@dataclass
class ManualClock:
    """A clock that moves only when told; both readings advance together."""

    at: float = 1_000_000.0

    def now(self) -> float:
        """Return the set time."""
        return self.at

    def monotonic(self) -> float:
        """Return the set time."""
        return self.at

    def advance(self, seconds: float) -> None:
        """Move on by ``seconds``."""
        self.at += seconds


def iso(seconds: float) -> str:
    """Return UTC ``seconds`` as ISO 8601 with a ``Z``, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
