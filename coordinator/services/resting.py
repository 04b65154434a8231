"""Jobs whose run broke off because the store or the blobs failed: each is taken up again after a pause, for ever.

An accident of ours is no end of a job: until somebody ends it, it is taken up where its records say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from common.ids import JobId, NodeId
from coordinator.services.runner import JobRun

_log = structlog.get_logger()


class Resting:
    """Holds broken-off runs.

    Args:
        take_up: Starts a job anew from its records, unless it runs or is over.
        pause_s: Seconds between tries.
    """

    def __init__(self, take_up: Callable[[JobId], Coroutine[Any, Any, None]], pause_s: float) -> None:
        self._take_up, self._pause_s = take_up, pause_s
        self._resting: dict[JobId, tuple[JobRun, asyncio.Task[None]]] = {}

    def rest(self, run: JobRun) -> None:
        """Take ``run``'s job up again after a pause."""
        job = run.job.id
        self._resting[job] = (run, asyncio.create_task(self._later(job), name=f"resting {job}"))

    def of(self, node: NodeId) -> list[JobId]:
        """Return the resting jobs that still need what ``node`` keeps."""
        return [job for job, (run, _) in self._resting.items() if run.nodes.concerned(node)]

    async def wake(self, job: JobId) -> None:
        """Take a job up now, if it rests.

        Raises:
            Unreachable: the store still fails.
        """
        if job in self._resting:
            await self._take_up(job)
            if (found := self._resting.pop(job, None)) is not None:
                found[1].cancel()

    def close(self) -> None:
        """Leave them to the next start."""
        for _, task in self._resting.values():
            task.cancel()
        self._resting.clear()

    async def _later(self, job: JobId) -> None:
        while True:
            await asyncio.sleep(self._pause_s)
            try:
                await self._take_up(job)
            except Exception as error:  # noqa: BLE001 - whatever it is, the job must not be forgotten
                _log.warning("job_not_taken_up", job=job, error=repr(error))
            else:
                self._resting.pop(job, None)
                return
