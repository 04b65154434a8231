"""Time-outs of a transfer."""

from __future__ import annotations

import asyncio
from types import TracebackType

from common.errors import LeaseLost
from coordinator.rpc.limits import LinkLimits


class Pace:
    """Ends a transfer that stalls or crawls: a context around it, one ``step`` a chunk."""

    def __init__(self, limits: LinkLimits) -> None:
        """Allow ``limits.stall_s`` between chunks, and ``limits.min_rate`` on average after that."""
        self._limits, self._moved, self._began = limits, 0, 0.0
        self._timeout = asyncio.timeout(limits.stall_s)

    async def __aenter__(self) -> Pace:
        """Start the watch."""
        self._began = asyncio.get_running_loop().time()
        await self._timeout.__aenter__()
        return self

    def step(self, size: int) -> float:
        """Note that a chunk of ``size`` bytes has moved; return the loop's time.

        Raises:
            LeaseLost: far too slow.
        """
        now = asyncio.get_running_loop().time()
        self._moved += size
        elapsed = now - self._began
        if elapsed > self._limits.stall_s and self._moved < elapsed * self._limits.min_rate:
            raise LeaseLost(f"{self._moved} bytes in {elapsed:.0f} s are too few", code="too_slow")
        self._timeout.reschedule(now + self._limits.stall_s)
        return now

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the watch; a time-out becomes LeaseLost."""
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise LeaseLost(f"nothing moved for {self._limits.stall_s:g} s", code="stalled") from None
