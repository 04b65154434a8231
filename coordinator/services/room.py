"""Whether a job's tenant may store more: a job over the limit stops where it is, and goes on when there is room.

What a round has made is booked in the transaction that records it, whatever the limit says, so a tenant passes it by
one round of each running job at most.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from common.errors import TenantQuotaExceeded
from coordinator.domain.exchanges import Exchange
from coordinator.domain.jobs import Job
from coordinator.ports.store import Tx
from coordinator.services.around import Around

T = TypeVar("T")


class Room:
    """One job's.

    Args:
        around: Services.
        job: Returns the job as it is now.
        stand: Says on the job why it goes on later.
    """

    def __init__(self, around: Around, job: Callable[[], Job], stand: Callable[[str], None]) -> None:
        self._around, self._job, self._stand = around, job, stand
        self.full = False  # no new exchange begins

    def book(self, tx: Tx, row: Exchange) -> bool:
        """Book the objects of ``row``; return whether the tenant has more now than it may."""
        tenant, limit = self._job().tenant, self._around.allowances.now(self._job().tenant).stored_bytes
        sums = [tx.quotas.keep(tenant, r.digest, r.size) for r in row.replies if r.digest is not None]
        return any(total is not None and total > limit for total in sums)

    async def wait(self) -> None:
        """Return when the tenant has no more than it may."""
        tenant = self._job().tenant
        await self.until(lambda: self._around.store.read(lambda tx: self._around.allowances.check_stored(tx, tenant)))
        self.full = False

    async def until(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what ``work`` does, tried again whenever there may be room for what it stores."""
        while True:
            news = self._around.blobs.news(self._job().tenant)
            try:
                return await work()
            except TenantQuotaExceeded as error:
                self._stand(f"{error.detail}; {error.next_step}")
                await news.wait()
