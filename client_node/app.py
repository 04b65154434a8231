"""The one place where the agent is put together, started and stopped."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import structlog

from client_node.adapters.state import SqliteState
from client_node.ports.link import Link
from client_node.services.agent import Agent, Parts, Serving
from client_node.services.judge import Judge
from client_node.services.local_jobs import LocalJobs
from client_node.services.node_dir import NodeDir
from client_node.services.prepare import Preparation
from client_node.services.report import AgentFile, AgentState
from client_node.services.tasks import Tasks
from client_node.services.updates import KeptUpdates
from client_node.settings import NodeSettings, load
from common.clock import Clock
from common.errors import PlatformError
from common.wire import hansa_node_pb2 as pb
from policies.engine import Policies
from policies.parties import NodePrincipal

_log = structlog.get_logger()
STOPPED, REFUSED = 0, 3  # exit codes: told to stop; the coordinator will not have this node


class LiveSettings:
    """The settings as they are now; a file that was broken while we run keeps the last good ones in force."""

    def __init__(self, place: NodeDir) -> None:
        self._place = place
        self._now = load(place.root)

    def __call__(self) -> NodeSettings:
        """Return the settings in force."""
        return self._now

    def reload(self) -> None:
        """Read the file again."""
        try:
            self._now = load(self._place.root)
        except PlatformError as error:
            _log.warning("settings_kept", detail=error.detail)


class NodeAgent:
    """The agent over a link and a model server; tests give it a link of their own."""

    def __init__(self, place: NodeDir, state: SqliteState, link: Link, clock: Clock, serving: Serving | None) -> None:
        who = place.identity()
        self.settings = LiveSettings(place)
        policies = Policies.load(place.local_policies)
        judge = Judge(state, self.settings, policies, NodePrincipal(who.node, who.tenant))
        kept = KeptUpdates(place.updates, state)
        kept.sweep()
        prepared = Preparation(place, state, link, judge)
        jobs = LocalJobs(place, prepared, judge, self.settings, self._on_log)
        self._file = AgentFile(place.agent_file, AgentState(os.getpid(), clock.now()), self._refresh)
        tasks = Tasks(link, judge, jobs, kept, self.settings, self._file.changed)
        self._state, self._jobs, self._link = state, jobs, link
        self._parts = Parts(state, state, judge, prepared, tasks, kept, serving)
        self.agent = Agent(link, self._parts, self.settings, self._file, clock)

    async def run(self, *others: Callable[[], asyncio.Task[None]]) -> int:
        """Run until stopped by a signal, a final farewell or a failed part; return the exit code.

        Args:
            others: Start what runs beside the link (the certificate's renewal).
        """
        stopping = self._signals()
        self._file.write()
        link = asyncio.create_task(self._link.run(self.agent), name="link")
        beside = [start() for start in others]
        farewell = asyncio.create_task(self.agent.stopped.wait())
        stop = asyncio.create_task(stopping.wait())
        try:
            done, _ = await asyncio.wait({link, farewell, stop}, return_when=asyncio.FIRST_COMPLETED)
            if link in done:
                link.result()  # raises what ended it: a link runs for ever
            return REFUSED if farewell in done else STOPPED
        finally:
            for task in (link, farewell, stop, *beside):
                task.cancel()
            await asyncio.wait({link, farewell, stop, *beside})
            await self.close()

    async def close(self) -> None:
        """End every app; what is kept stays kept."""
        await self.agent.close()
        await self._jobs.close_all()
        self._file.close()

    def poke(self) -> None:
        """Take up what people changed on this machine."""
        self.settings.reload()
        self.agent.poke()

    def _signals(self) -> asyncio.Event:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.poke)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        return stopping

    def _on_log(self, job: str, data: bytes) -> None:
        self.agent.on_log(job, data)

    def _refresh(self, now: AgentState) -> None:
        now.running = sorted(self._parts.tasks.running)
        now.apps = {job.job.request.job: job.app.pid for job in self._jobs.opened() if job.app.pid}
        now.held = len(self._parts.kept.held())
        now.sandbox = self.settings().sandbox
        if self._parts.serving is not None:
            now.serving = self._parts.serving.url
            now.models = [_served(status) for status in self._parts.serving.statuses()]


def _served(status: pb.DeployStatus) -> dict[str, str | int]:
    return {
        "model": status.model,
        "version": status.version,
        "state": pb.DeployStatus.State.Name(status.state).lower(),
        "url": status.url,
        "message": status.message,
    }
