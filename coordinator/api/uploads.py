"""How many bodies of a tenant are taken in at once: each is memory or disk of the coordinator until it is judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request

from common.errors import TenantQuotaExceeded


class Uploads:
    """Counts them.

    Args:
        at_once: Of one tenant.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def one(self, tenant: str) -> Iterator[None]:
        """Take in one body of ``tenant``.

        Raises:
            TenantQuotaExceeded: as many as may are under way.
        """
        if self._under_way[tenant] >= self._at_once:
            raise TenantQuotaExceeded(
                f"{self._at_once} uploads of {tenant} are under way", next_step="try again when one has ended"
            )
        self._under_way[tenant] += 1
        try:
            yield
        finally:
            self._under_way[tenant] -= 1
            self._under_way += Counter()  # forgets who has none


def uploads_of(request: Request) -> Uploads:
    """Return the application's."""
    found: Uploads = request.app.state.uploads
    return found
