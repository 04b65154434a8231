"""The jobs that run at this node now: one warm app each, and room for so many tasks at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from client_node.services.instructions import Instructions
from client_node.services.judge import Judge
from client_node.services.node_dir import NodeDir
from client_node.services.offers import PreparedJob
from client_node.services.prepare import Preparation
from client_node.services.warm_app import WarmApp, log_file
from client_node.services.watchdog import Watchdog
from client_node.settings import NodeSettings

_LOGS = 200  # logs of jobs kept


class LocalJob:
    """A job's place at this node: its app, and the order of its tasks (one at a time)."""

    def __init__(self, job: PreparedJob, app: WarmApp, folder: Path) -> None:
        self.job = job
        self.app = app
        self.instructions = Instructions(folder)
        self.turn = asyncio.Lock()


class LocalJobs:
    """Opens a job's place when its first task comes, and clears it away when the job has ended."""

    def __init__(
        self,
        place: NodeDir,
        prepared: Preparation,
        judge: Judge,
        settings: Callable[[], NodeSettings],
        watchdog: Watchdog,
        on_log: Callable[[str, bytes], None],
    ) -> None:
        self._place = place
        self._prepared = prepared
        self._judge = judge
        self._settings = settings
        self._watchdog = watchdog
        self._on_log = on_log
        self._open: dict[str, LocalJob] = {}

    def find(self, job: str) -> PreparedJob | None:
        """Return the job if it was prepared at this node."""
        return self._prepared.find(job)

    async def open(self, job: PreparedJob) -> LocalJob:
        """Return the job's place; its app is renewed when the steward changed what it may see."""
        name = job.request.job
        mounts = self._judge.mounts(job.request)
        here = self._open.get(name)
        if here is not None and here.app.mounts == mounts:
            return here
        folder = self._place.jobs / name
        folder.mkdir(mode=0o700, exist_ok=True)
        app = WarmApp(
            job,
            self._prepared.app_dir(job),
            mounts,
            self._settings(),
            log_file(self._place.log, name),
            lambda data: self._on_log(name, data),
            self._watchdog,
        )
        if here is not None:
            async with here.turn:
                await here.app.end()
                here.app = app
            return here
        self._open[name] = LocalJob(job, app, folder)
        return self._open[name]

    def opened(self) -> tuple[LocalJob, ...]:
        """Return the jobs that have a place now."""
        return tuple(self._open.values())

    async def close(self, job: str) -> None:
        """End the job's app and clear its folder."""
        self._prepared.forget(job)
        here = self._open.pop(job, None)
        if here is not None:
            await here.app.end()
        folder = self._place.jobs / job
        if folder.is_dir():
            await asyncio.to_thread(_clear, folder)

    async def tidy(self) -> None:
        """Remove apps that no job uses any more, and the oldest logs beyond ``_LOGS``."""
        await self._prepared.tidy()
        logs = sorted(self._place.log.glob("job_*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in logs[_LOGS:]:
            path.unlink(missing_ok=True)

    async def close_all(self) -> None:
        """End every app; what is on disk stays for the next start."""
        for here in self.opened():
            await here.app.end()
        self._open.clear()


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink(missing_ok=True)
    folder.rmdir()
