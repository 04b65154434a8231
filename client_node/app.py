"""The one place where the agent is put together, started and stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine

import structlog

from client_node.adapters.grpc_link import GrpcLink
from client_node.adapters.lease_log import SqliteLeaseLog
from client_node.adapters.masks import SqliteMasks
from client_node.adapters.nvml import Nvml
from client_node.adapters.state import SqliteState
from client_node.ports.devices import Driver
from client_node.ports.link import Link
from client_node.services.agent import Agent, NoServing, Parts, Serving
from client_node.services.agent_lock import AgentLock
from client_node.services.credentials import load_credentials
from client_node.services.deploy import ModelServing
from client_node.services.devices import Devices
from client_node.services.enrol import keep_certificate
from client_node.services.judge import Judge
from client_node.services.leased_apps import LeasedApps
from client_node.services.leases import HeldLease, Leases
from client_node.services.local_jobs import LocalJobs
from client_node.services.maskwords import Party
from client_node.services.node_dir import NodeDir
from client_node.services.prepare import Preparation
from client_node.services.protect import Protection
from client_node.services.report import AgentFile, AgentState
from client_node.services.serving_consent import by_policy
from client_node.services.tasks import Tasks
from client_node.services.updates import KeptUpdates
from client_node.services.watchdog import Watchdog
from client_node.settings import NodeSettings, load
from common import telemetry
from common.clock import Clock, SystemClock
from common.errors import PlatformError
from common.sandbox import SandboxMode
from common.wire import hansa_node_pb2 as pb
from policies.engine import Policies
from policies.parties import NodePrincipal

_log = structlog.get_logger()
_POLL_MS = 50  # no faster than that, whatever is set: a look may take some milliseconds itself


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

    def __init__(
        self,
        place: NodeDir,
        state: SqliteState,
        link: Link,
        clock: Clock,
        serving: Serving,
        settings: LiveSettings,
        driver: Driver,
    ) -> None:
        who = place.identity()
        self.settings = settings
        policies = Policies.load(place.local_policies)
        devices = Devices(driver, settings)
        devices.scan()
        leases = Leases(devices, SqliteLeaseLog(state), settings, clock)
        if interrupted := leases.recover():
            _log.warning("leases_interrupted", count=interrupted)
        judge = Judge(state, settings, lambda: devices.lent().values(), policies, NodePrincipal(who.node, who.tenant))
        kept = KeptUpdates(place.updates, state)
        kept.sweep()
        prepared = Preparation(place, state, link, judge)
        watchdog = Watchdog(driver, leases, self._look_again, self._poll_s, asyncio.sleep)
        jobs = LocalJobs(place, prepared, judge, settings, watchdog, self._on_log)
        leased = LeasedApps(jobs, leases, lambda: settings().gpu_renew_ms / 1000, asyncio.sleep)
        me = Party(who.node, who.tenant, lambda: load_credentials(place), clock)
        protection = Protection(me, link, kept, SqliteMasks(state), place.masked, settings)
        protection.sweep()
        self._file = AgentFile(place.agent_file, AgentState(os.getpid(), clock.now()), self._refresh)
        tasks = Tasks(link, judge, jobs, protection, leased, settings, self._file.changed)
        self._jobs, self._link = jobs, link
        self._parts = Parts(state, state, judge, prepared, tasks, kept, protection, devices, leases, serving)
        self.agent = Agent(link, self._parts, self.settings, self._file, clock)

    async def run(self, *beside: Coroutine[None, None, None]) -> None:
        """Run until a signal says stop, or a part fails.

        Args:
            beside: What runs beside the link, as long as it does (the certificate's renewal).
        """
        stopping = self._signals()
        self._file.write()
        own = (
            self._link.run(self.agent),
            self._parts.leases.beat(asyncio.sleep),
            self._parts.devices.watch(self.agent.report, asyncio.sleep),
        )
        parts = [asyncio.create_task(work) for work in (*own, *beside)]
        stop = asyncio.create_task(stopping.wait())
        try:
            done, _ = await asyncio.wait([stop, *parts], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (stop, *parts):
                task.cancel()
            await asyncio.wait([stop, *parts])
            await self.agent.close()
            await self._link.close()
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

    def _poll_s(self) -> float:
        return max(self.settings().gpu_poll_ms, _POLL_MS) / 1000

    def _look_again(self) -> None:
        self.agent.look_again()

    def _on_log(self, job: str, data: bytes) -> None:
        self.agent.on_log(job, data)

    def _refresh(self, now: AgentState) -> None:
        now.running = sorted(self._parts.tasks.running)
        now.apps = {job.job.request.job: job.app.pid for job in self._jobs.opened() if job.app.pid}
        now.held = len(self._parts.kept.held())
        now.sandbox = self.settings().sandbox
        now.serving = self._parts.serving.url
        now.devices = list(self._parts.devices.lent())
        now.leases = [self._held(held) for held in self._parts.leases.held()]
        now.enforcement = list(self._parts.leases.on_offer())
        now.models = [_served(status) for status in self._parts.serving.statuses()]

    def _held(self, held: HeldLease) -> str:
        parts = [f"{part.milli}/1000 of {part.device}" for part in held.lease.slices] or ["CPU only"]
        words = "+".join(self._parts.leases.measures(held))
        return f"{held.lease.task} of {held.lease.tenant}: {', '.join(parts)} ({words})"


def _served(status: pb.DeployStatus) -> dict[str, str | int]:
    return {
        "model": status.model,
        "version": status.version,
        "state": pb.DeployStatus.State.Name(status.state).lower(),
        "url": status.url,
        "message": status.message,
    }


def run(place: NodeDir) -> None:
    """Run the agent of ``place`` in this process until it is told to stop.

    Raises:
        NotFound: the directory has not joined. Conflict: an agent runs on it already.
    """
    place.identity()
    place.prepare()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a poke that comes before we listen must not end us
    lock = AgentLock(place.lock)
    lock.acquire()
    telemetry.configure(style="console" if sys.stderr.isatty() else "json")
    try:
        asyncio.run(_serve(place, SystemClock()))
    finally:
        lock.release()


async def _serve(place: NodeDir, clock: Clock) -> None:
    state = SqliteState(place.database)
    settings = LiveSettings(place)
    link = GrpcLink(lambda: load_credentials(place), place.identity().link, clock)
    serving = await _model_server(place, state, settings)
    driver = Nvml()
    stop = asyncio.Event()
    try:
        agent = NodeAgent(place, state, link, clock, serving, settings, driver)
        await agent.run(keep_certificate(link, place.root, clock, stop))
    finally:
        stop.set()
        driver.close()
        await serving.close()
        state.close()


async def _model_server(place: NodeDir, state: SqliteState, settings: LiveSettings) -> ModelServing | NoServing:
    """Return the started model server; a node whose server does not start still trains, and says why."""
    who = place.identity()
    consent = by_policy(Policies.load(place.local_policies), NodePrincipal(who.node, who.tenant), state, settings)
    serving = ModelServing(place.root, SandboxMode(settings().sandbox), settings().serving_port, consent=consent)
    try:
        await serving.start()
    except (PlatformError, OSError) as error:
        await serving.close()
        _log.warning("model_server_not_started", detail=str(error))
        return NoServing(str(error))
    return serving
