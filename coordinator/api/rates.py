"""A bucket of requests for each address: for the few routes that need no credentials."""

from __future__ import annotations

import math
from collections import OrderedDict

from fastapi import Request
from starlette.exceptions import HTTPException

from coordinator.api.caller import services_of

_ADDRESSES = 10_000  # remembered; the longest unheard are forgotten first


class Buckets:
    """Token buckets by address."""

    def __init__(self, per_minute: int) -> None:
        """Allow ``per_minute`` requests a minute, all of them at once if none came before."""
        self._size = float(per_minute)
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address -> (level, at)

    def take(self, address: str, now: float) -> float:
        """Take one request of ``address``; return 0, or the seconds until there is one."""
        level, at = self._levels.pop(address, (self._size, now))
        level = min(self._size, level + (now - at) * self._size / 60.0)
        wait = 0.0 if level >= 1.0 else (1.0 - level) * 60.0 / self._size
        self._levels[address] = (level if wait else level - 1.0, now)
        if len(self._levels) > _ADDRESSES:
            self._levels.popitem(last=False)
        return wait


async def limit_by_address(request: Request) -> None:
    """Refuse an address that asks too often.

    Raises:
        HTTPException: 429 with ``Retry-After``.
    """
    buckets: Buckets = request.app.state.buckets
    address = request.client.host if request.client else ""
    wait = buckets.take(address, services_of(request).clock.monotonic())
    if wait:
        raise HTTPException(429, "too many requests from this address", {"Retry-After": str(math.ceil(wait))})
