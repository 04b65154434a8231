"""A job asks to run here: consent, fetch the app, verify it, look for missing imports; then yes, or why not."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from subprocess import SubprocessError

import structlog

from client_node.guard.consent import Denial
from client_node.ports.link import Link
from client_node.ports.state import TaskState
from client_node.services.judge import Judge
from client_node.services.node_dir import NodeDir
from client_node.services.offers import PreparedJob, read_prepare
from client_node.settings import NodeSettings
from common.bundle import unpack
from common.errors import BadSignature, PlatformError
from common.sandbox import missing_imports
from common.wire import hansa_node_pb2 as pb

_log = structlog.get_logger()


class Preparation:
    """Jobs prepared at this node.  What was agreed is on record, so tasks run after a restart without asking anew."""

    def __init__(self, place: NodeDir, state: TaskState, link: Link, judge: Judge) -> None:
        self._place = place
        self._state = state
        self._link = link
        self._judge = judge
        self._one_at_a_time = asyncio.Lock()
        self._known: dict[str, PreparedJob] = {}

    async def prepare(self, asked: pb.Prepare, settings: NodeSettings) -> pb.Prepared:
        """Return this node's answer to ``asked``; never raises ``PlatformError``."""
        try:
            denials = await self._take_on(asked, settings)
        except PlatformError as error:
            denials = (Denial(error.code, error.detail, error.next_step),)
        except (OSError, SubprocessError) as error:  # a full disk, an interpreter that is gone
            _log.warning("prepare_failed", job=asked.job, error=str(error))
            denials = (Denial("node_error", f"The node itself failed: {type(error).__name__}.", "hansa node doctor"),)
        return pb.Prepared(job=asked.job, denials=[pb.Denial(code=d.code, message=d.text) for d in denials])

    def find(self, job: str) -> PreparedJob | None:
        """Return a job that was prepared here, before or after the last restart."""
        if job not in self._known:
            written = self._state.job(job)
            if written is None:
                return None
            self._known[job] = read_prepare(pb.Prepare.FromString(written))
        return self._known[job]

    def forget(self, job: str) -> None:
        """Drop what is in memory of a job; its row is dropped with its updates."""
        self._known.pop(job, None)

    async def tidy(self) -> None:
        """Remove the apps that no job on record uses."""
        async with self._one_at_a_time:
            known = [self.find(job) for job in self._state.jobs()]
            used = {job.request.app_digest for job in known if job is not None}
            for folder in self._place.apps.iterdir():
                if folder.name not in used:
                    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def app_dir(self, job: PreparedJob) -> Path:
        """Return where the app's files are."""
        return self._place.apps / job.request.app_digest

    async def _take_on(self, asked: pb.Prepare, settings: NodeSettings) -> tuple[Denial, ...]:
        job = read_prepare(asked)
        if denials := self._judge.consider(job.request):
            return denials
        async with self._one_at_a_time:
            denials = await self._fetch(job, settings)
            if not denials:
                await asyncio.to_thread(self._state.put_job, job.request.job, asked.SerializeToString())
                self._known[job.request.job] = job
        return denials

    async def _fetch(self, job: PreparedJob, settings: NodeSettings) -> tuple[Denial, ...]:
        target = self.app_dir(job)
        if not target.is_dir():
            archive = self._place.cache / f"{job.prepare.bundle.digest}.zip"
            await self._link.download(job.prepare.bundle, archive, job=job.request.job)
            try:
                await asyncio.to_thread(_unpack, archive, target, job.request.app_digest)
            finally:
                archive.unlink(missing_ok=True)
        python = settings.environments[job.spec.environment]
        missing = await asyncio.to_thread(missing_imports, target, python, job.spec.clientapp)
        if not missing:
            return ()
        names = ", ".join(missing)
        return (
            Denial(
                "missing_imports",
                f"The app imports {names}, which environment {job.spec.environment!r} of this node does not have.",
                f"install what it needs for {python}",
            ),
        )


def _unpack(archive: Path, target: Path, app_digest: str) -> None:
    """Open the app's archive at ``target`` if it is the app that was approved.

    Raises:
        BadSignature: its files are not the ones with that digest. BadInput, QuotaExceeded: a bad archive.
    """
    fresh = target.with_name(f"{target.name}.new")
    found = unpack(archive.read_bytes(), fresh)
    if found != app_digest:
        shutil.rmtree(fresh)
        raise BadSignature(f"the archive holds app {found[:12]}…, not {app_digest[:12]}… that was asked for")
    fresh.rename(target)
