"""A job's log: written in batches, in order, and followed live.

``commit`` is the one door through which a job's records are written: what was noted before goes into the same
transaction, so that a tiny round costs one sync and the log never runs ahead of the facts.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from common.clock import Clock
from common.errors import NotFound, PlatformError
from common.ids import JobId
from coordinator.domain.jobs import FINAL, Job, JobLogEntry
from coordinator.ports.store import Store, Tx

T = TypeVar("T")
_log = structlog.get_logger()
LAST = frozenset({"job_succeeded", "job_failed", "job_cancelled"})
_PAGE = 500


@dataclass(frozen=True)
class _Draft:
    at: float
    event: str
    facts: dict[str, object]


class JobFeed:
    """The log of every job.

    Args:
        store: Where entries are kept.
        clock: For their times.
        every_s: How long an entry may wait for company.
    """

    def __init__(self, store: Store, clock: Clock, every_s: float = 0.02) -> None:
        self._store, self._clock, self._every_s = store, clock, every_s
        self._drafts: dict[JobId, list[_Draft]] = {}
        self._locks: defaultdict[JobId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._timers: dict[JobId, asyncio.TimerHandle] = {}
        self._writing: set[asyncio.Task[None]] = set()
        self._counts: dict[JobId, int] = {}
        self._news: dict[JobId, asyncio.Event] = {}

    def note(self, job: JobId, event: str, **facts: object) -> None:
        """Add an entry; it is written with the job's next record, or a moment later."""
        self._drafts.setdefault(job, []).append(_Draft(self._clock.now(), event, _plain(facts)))
        if job not in self._timers:
            self._timers[job] = asyncio.get_running_loop().call_later(self._every_s, self._flush_soon, job)

    async def commit(self, job: JobId, work: Callable[[Tx], T] | None = None) -> T | None:
        """Write what was noted, and ``work``, in one transaction; return what ``work`` does."""
        async with self._locks[job]:
            self._stop_timer(job)
            drafts = self._drafts.pop(job, [])
            if not drafts and work is None:
                return None

            def write(tx: Tx) -> T | None:
                result = work(tx) if work is not None else None
                for draft in drafts:
                    tx.jobs.log(job, draft.at, draft.event, draft.facts)
                return result

            try:
                result = await self._store.write(write)
            except BaseException:
                self._drafts[job] = drafts + self._drafts.get(job, [])
                raise
        self.told(job)
        return result

    def written(self, entry: JobLogEntry) -> None:
        """Wake the followers of an entry that another service has written."""
        self.told(entry.job)

    def told(self, job: JobId) -> None:
        """Wake the followers of ``job``."""
        self._counts[job] = self._counts.get(job, 0) + 1
        event = self._news.pop(job, None)
        if event is not None:
            event.set()

    async def follow(self, job: JobId, after: int) -> AsyncIterator[JobLogEntry]:
        """Yield the entries behind number ``after``: those that are there, then new ones, to the job's last.

        Raises:
            NotFound: no such job.
        """
        while True:
            count = self._counts.get(job, 0)
            entries, record = await self._store.read(
                lambda tx, last=after: (tx.jobs.log_since(job, last, _PAGE), tx.jobs.get(job))  # type: ignore[misc]
            )
            if record is None:
                raise NotFound(f"no job {job}")
            for entry in entries:
                yield entry
                after = entry.seq
                if entry.event in LAST:
                    return
            if not entries and record.state in FINAL:
                return
            if not entries and count == self._counts.get(job, 0):
                await self._news.setdefault(job, asyncio.Event()).wait()

    async def close(self) -> None:
        """Write what is left."""
        for job in list(self._drafts):
            await self.commit(job)
        if self._writing:
            await asyncio.gather(*self._writing, return_exceptions=True)

    def forget(self, job: Job) -> None:
        """Drop what is kept of a job that has ended."""
        self._locks.pop(job.id, None)

    def _stop_timer(self, job: JobId) -> None:
        timer = self._timers.pop(job, None)
        if timer is not None:
            timer.cancel()

    def _flush_soon(self, job: JobId) -> None:
        self._timers.pop(job, None)
        task = asyncio.get_running_loop().create_task(self._flush(job))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _flush(self, job: JobId) -> None:
        try:
            await self.commit(job)
        except PlatformError as error:
            _log.error("job_log_not_written", job=job, code=error.code, detail=error.detail)


def _plain(facts: dict[str, object]) -> dict[str, object]:
    return {key: _plain_value(value) for key, value in facts.items()}


def _plain_value(value: object) -> object:
    """Return ``value`` as JSON can say it: a loss that has diverged is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _plain_value(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_value(v) for v in value]
    return value
