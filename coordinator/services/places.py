"""Running places: how many jobs of a tenant have a ServerApp's process at once; the others wait in line.

A job that ran before this coordinator started keeps its place, also where the tenant may run fewer by now: lowering the
number never stops what runs.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from common.ids import JobId, TenantId
from coordinator.domain.jobs import Job, JobState
from coordinator.domain.quotas import Allowance


@dataclass(order=True)
class _Waiter:
    since: float
    job: JobId
    tenant: TenantId = field(compare=False)
    say: Callable[[str], None] = field(compare=False)
    called: asyncio.Future[None] = field(compare=False)


class Places:
    """The lines of all tenants.

    Args:
        default: Places of a tenant of whom nothing else was said.
    """

    def __init__(self, default: int) -> None:
        self._default = default
        self._numbers: dict[TenantId, int] = {}
        self._taken: defaultdict[TenantId, set[JobId]] = defaultdict(set)
        self._lines: defaultdict[TenantId, list[_Waiter]] = defaultdict(list)

    def taken(self, tenant: TenantId) -> int:
        """Return how many jobs of ``tenant`` hold a place."""
        return len(self._taken[tenant])

    def allow(self, allowance: Allowance) -> None:
        """Let a tenant have so many places from now on."""
        self._numbers[allowance.tenant] = allowance.running_jobs
        self._call(allowance.tenant)
        for waiter in self._lines[allowance.tenant]:
            waiter.say(self._sentence(allowance.tenant))

    async def take(self, job: Job, say: Callable[[str], None]) -> None:
        """Return when the job has a place: at once if it had begun before, else in the order of submission.

        Args:
            job: As the store has it.
            say: Told in a sentence what is waited for, whenever that changes.
        """
        tenant = job.tenant
        if job.state is not JobState.QUEUED or (not self._lines[tenant] and self._free(tenant)):
            self._taken[tenant].add(job.id)
            return
        waiter = _Waiter(job.created_at, job.id, tenant, say, asyncio.get_running_loop().create_future())
        insort(self._lines[tenant], waiter)
        say(self._sentence(tenant))
        try:
            await waiter.called
        except asyncio.CancelledError:
            if waiter in self._lines[tenant]:
                self._lines[tenant].remove(waiter)
            self.give(job)  # called in the very moment in which it was cancelled
            raise

    def give(self, job: Job) -> None:
        """Give the job's place back, if it has one, to the next in line."""
        self._taken[job.tenant].discard(job.id)
        self._call(job.tenant)

    def _call(self, tenant: TenantId) -> None:
        line = self._lines[tenant]
        while line and self._free(tenant):
            waiter = line.pop(0)
            self._taken[tenant].add(waiter.job)
            if not waiter.called.done():
                waiter.called.set_result(None)

    def _free(self, tenant: TenantId) -> bool:
        return len(self._taken[tenant]) < self._number(tenant)

    def _number(self, tenant: TenantId) -> int:
        return self._numbers.get(tenant, self._default)

    def _sentence(self, tenant: TenantId) -> str:
        number = self._number(tenant)
        if number == 0:
            return f"{tenant} may run no jobs now (hansa quota show {tenant})"
        jobs = "1 job" if number == 1 else f"{number} jobs"
        return f"waits for another job of {tenant} to end: it may run {jobs} at once (hansa quota show {tenant})"
