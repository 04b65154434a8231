"""Leases and the apps under them: who must make room for a lease, and how long an app stays warm after its own.

The next round of a job often follows at once, so its app may wait for it with what it has of a device.  It holds memory
then that nobody is charged for: it ends when its lease is not renewed in time, and at once when it is in the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from client_node.guard.leases import Lease, Slice
from client_node.services.leases import HeldLease, Leases
from client_node.services.local_jobs import LocalJob, LocalJobs

_log = structlog.get_logger()


class LeasedApps:
    """Holds leases around tasks, and ends apps whose lease is over.

    Args:
        jobs: The jobs with an app at this node.
        leases: What is held.
        patience_s: How long an app may wait for its lease to be renewed, as set now; seconds.
        pause: Waits so many seconds.
    """

    def __init__(
        self,
        jobs: LocalJobs,
        leases: Leases,
        patience_s: Callable[[], float],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self.leases = leases
        self._jobs = jobs
        self._patience_s = patience_s
        self._pause = pause
        self._waits: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def hold(self, lease: Lease) -> AsyncIterator[HeldLease]:
        """Hold a lease that was judged, for the ``with``; apps that are in its way have ended when it begins."""
        try:
            async with self.leases.hold(lease) as held:
                if lease.slices:
                    await self._make_room(lease)
                yield held
        finally:
            self._wait_for_renewal(lease.job)

    async def close(self) -> None:
        """Wait for nothing any more, and until the ends of leases are on record."""
        waits = list(self._waits.values())
        for wait in waits:
            wait.cancel()
        if waits:
            await asyncio.wait(waits)
        await self.leases.close()

    async def _make_room(self, lease: Lease) -> None:
        staying: tuple[Slice, ...] = ()
        for here in self._jobs.opened():
            if here.job.request.job == lease.job or not self._lingers(here):
                continue
            if self.leases.fit(here.app.slices, beside=staying):
                staying += here.app.slices
            else:
                _log.info("warm_app_made_room", job=here.job.request.job, for_job=lease.job)
                await here.app.end()

    def _wait_for_renewal(self, job: str) -> None:
        if before := self._waits.pop(job, None):
            before.cancel()
        here = next((here for here in self._jobs.opened() if here.job.request.job == job), None)
        if here is not None and self._lingers(here):
            wait = self._waits[job] = asyncio.create_task(self._end_later(here), name=f"warm app of {job}")
            wait.add_done_callback(lambda done: self._waits.pop(job) if self._waits.get(job) is done else None)

    async def _end_later(self, here: LocalJob) -> None:
        await self._pause(self._patience_s())
        if self._lingers(here):
            await here.app.end()

    def _lingers(self, here: LocalJob) -> bool:
        """Say whether a job's app has what no lease of the job gives it now."""
        name, has = here.job.request.job, here.app.slices
        if not has or here.app.busy:
            return False
        return not any(held.lease.job == name and held.lease.slices == has for held in self.leases.held())
