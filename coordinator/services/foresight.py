"""What a job that is not submitted yet would meet: when it would start, how long it would run, what it would cost.

The scheduler's own decision is asked, with the job's first round beside what waits now.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from common.clock import Clock
from common.ids import JobId, TenantId
from coordinator.domain.jobs import Job, JobState
from coordinator.domain.quotas import Amount, Grant
from coordinator.scheduling.forecast import foresee, latest_ms
from coordinator.scheduling.records import Ask, State, Wait
from coordinator.services.estimates import Estimates
from coordinator.services.machines import need_of
from coordinator.services.queue import HORIZON_MS
from coordinator.services.schedule import Schedule
from coordinator.services.submit import Plan

_NOBODY = JobId("job_planned")


@dataclass(frozen=True)
class SiteShare:
    """What a site's owner gives the tenant, and what it holds there now."""

    site: TenantId
    nodes: int  # that could run the job
    grant: Grant | None
    held: Amount


@dataclass(frozen=True)
class Outlook:
    """What is expected of a job."""

    m: int  # nodes of a round, all or nothing
    start_ms: int | None  # None: not within a week, or not as long as nodes are away
    wait: Wait | None  # None: at once
    round_s: float | None  # None: rounds like these were never seen here
    length_s: float | None  # None: that, or the app does not say how many rounds
    gpu_hours: float | None
    sites: tuple[SiteShare, ...]

    @property
    def latest_ms(self) -> int | None:
        """Return when it would start at the latest, if nodes would be kept for it; None = nobody can say."""
        return None if self.wait is None else latest_ms(self.wait)


class Foresight:
    """Looks ahead for jobs that are not there yet.

    Args:
        schedule: The scheduler.
        estimates: What rounds take.
        clock: Time.
    """

    def __init__(self, schedule: Schedule, estimates: Estimates, clock: Clock) -> None:
        self._schedule, self._estimates, self._clock = schedule, estimates, clock
        self._turn = asyncio.Lock()  # one look ahead at a time: each is its own, and takes a processor

    async def of(self, plan: Plan, tenant: TenantId) -> Outlook:
        """Return what a job of ``tenant`` as planned would meet."""
        job, able = self._job(plan, tenant), [node for node, denials in plan.nodes if not denials]
        here = sorted(node.id for node in able)
        need, cohort = need_of(plan.spec), plan.spec.cohort
        most = self._schedule.most_at_once(tenant, need, here)
        m = max(cohort.target or min(len(here), most), cohort.minimum, 1)
        state, now_ms = self._schedule.state(), self._schedule.now_ms
        first = self._estimates.ask(job, "train", f"{_NOBODY}/1", (m, len(here), here), job.spec.deadline_s, now_ms)
        async with self._turn:
            start, wait = await asyncio.to_thread(_ahead, state, now_ms, first)
        seen = self._estimates.known(job, "train")
        round_s = self._estimates.round_s(job, "train", here, m) if seen else None
        length_s = self._estimates.left_s(job, here, self._clock.now()) if seen and plan.spec.rounds else None
        hours = None if length_s is None else m * need.milli / 1000 * length_s / 3600
        sites = sorted({node.tenant for node in able})
        shares = tuple(
            SiteShare(
                site,
                sum(node.tenant == site for node in able),
                self._schedule.grant(site, tenant),
                self._schedule.held(site, tenant),
            )
            for site in sites
        )
        return Outlook(m, start, wait, round_s, length_s, hours, shares)

    def _job(self, plan: Plan, tenant: TenantId) -> Job:
        return Job(
            id=_NOBODY,
            tenant=tenant,
            federation=plan.federation,
            submitted_by="",
            app=plan.app,
            bundle=plan.bundle,
            spec=plan.spec,
            seed=0,
            run_id=0,
            state=JobState.QUEUED,
            note="",
            reason="",
            created_at=self._clock.now(),
        )


def _ahead(state: State, now_ms: int, ask: Ask) -> tuple[int | None, Wait | None]:
    """Return when ``ask`` would start beside what waits now, and why not at once."""
    sight = foresee(replace(state, asks=(*state.asks, ask)), now_ms, HORIZON_MS)
    start = sight.starts[ask.id]
    return start, None if start is not None and start <= now_ms else sight.waits.get(ask.id)
