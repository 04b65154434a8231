"""The agent: hears the coordinator's events and hands each to the service whose matter it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Protocol

import structlog

from client_node.ports.link import Link
from client_node.ports.state import Catalogue, TaskState
from client_node.services.devices import Devices
from client_node.services.judge import Judge
from client_node.services.leases import Leases
from client_node.services.prepare import Preparation
from client_node.services.protect import Protection
from client_node.services.report import AgentFile, node_report
from client_node.services.tasks import Tasks
from client_node.services.updates import KeptUpdates
from client_node.settings import NodeSettings
from common.clock import Clock
from common.wire import hansa_node_pb2 as pb

_log = structlog.get_logger()


class Serving(Protocol):
    """The local model server, as far as the agent deals with it."""

    @property
    def url(self) -> str: ...
    async def handle_deploy(self, event: pb.Deploy, link: Link) -> None: ...
    async def handle_undeploy(self, event: pb.Undeploy, link: Link) -> None: ...
    def statuses(self) -> list[pb.DeployStatus]: ...


class NoServing:
    """The model server of a node that cannot have one; it says why to whoever asks."""

    url = ""

    def __init__(self, why: str) -> None:
        self._why = why

    async def handle_deploy(self, event: pb.Deploy, link: Link) -> None:
        """Refuse, with the reason."""
        message = f"this node's model server did not start: {self._why}"
        failed = pb.DeployStatus(
            model=event.model,
            version=event.version,
            manifest=event.manifest.digest,
            state=pb.DeployStatus.FAILED,
            message=message[:1000],
        )
        link.send(pb.NodeEvent(deploy=failed))

    async def handle_undeploy(self, event: pb.Undeploy, link: Link) -> None:
        """Agree: nothing is served."""
        gone = pb.DeployStatus(model=event.model, version=event.version, state=pb.DeployStatus.REMOVED)
        link.send(pb.NodeEvent(deploy=gone))

    def statuses(self) -> list[pb.DeployStatus]:
        """Return that nothing is served."""
        return []

    async def close(self) -> None:
        """There is nothing to close."""


@dataclass(frozen=True)
class Parts:
    """The services that the agent directs."""

    catalogue: Catalogue
    state: TaskState
    judge: Judge
    prepared: Preparation
    tasks: Tasks
    kept: KeptUpdates
    protection: Protection
    devices: Devices
    leases: Leases
    serving: Serving


class Agent:
    """``LinkClient`` of the node."""

    def __init__(
        self, link: Link, parts: Parts, settings: Callable[[], NodeSettings], file: AgentFile, clock: Clock
    ) -> None:
        self._link = link
        self._parts = parts
        self._settings = settings
        self._file = file
        self._clock = clock
        self._doing: set[asyncio.Task[None]] = set()

    # ---- LinkClient -------------------------------------------------------------------------------------------------

    async def hello(self) -> pb.Hello:
        """Return the report, the updates kept, and the models served."""
        held = [
            pb.HeldUpdate(task=u.task, digest=u.digest, size=u.size, content=u.content)
            for u in self._parts.kept.held()
            if not u.private
        ]
        return pb.Hello(report=self._report(), held=held, deployed=self._parts.serving.statuses())

    async def on_event(self, event: pb.CoordinatorEvent) -> None:
        """Begin what ``event`` asks for; slow work goes on behind."""
        parts = self._parts
        match event.WhichOneof("event"):
            case "welcome":
                self._welcomed(event.welcome)
            case "prepare":
                self._do(self._prepare(event.prepare))
            case "task":
                parts.tasks.offered(event.task)
            case "mask":
                self._do(parts.protection.order(event.mask))
            case "cancel":
                self._do(parts.tasks.cancel(event.cancel.task))
            case "closed":
                self._do(parts.tasks.close_exchange(event.closed.job, event.closed.seq))
            case "ended":
                _log.info("job_ended", job=event.ended.job, state=event.ended.state)
                self._do(parts.tasks.drop_job(event.ended.job))
            case "deploy":
                self._do(parts.serving.handle_deploy(event.deploy, self._link))
            case "undeploy":
                self._do(parts.serving.handle_undeploy(event.undeploy, self._link))
            case other:
                _log.warning("event_ignored", kind=other)
        self._file.changed()

    def on_state(self, state: str, detail: str) -> None:
        """Note where the link stands; a node that is refused stops working (what it keeps stays kept)."""
        now = self._file.state
        if state == "connected" and now.link != "connected":
            now.connected_since = self._clock.now()
        elif state != "connected":
            now.connected_since = None
        if state in {"waiting", "refused"}:
            now.last_error = detail
        if (state, detail) != (now.link, now.detail):
            _log.info("link_" + state, detail=detail)
        if state == "refused" and now.link != "refused":
            self._do(self._parts.tasks.close())
        now.link, now.detail = state, detail
        self._file.changed()

    # ---- from this machine ------------------------------------------------------------------------------------------

    def report(self) -> None:
        """Tell the coordinator anew what this node has."""
        self._link.send(pb.NodeEvent(report=self._report()))
        self._file.changed()

    def look_again(self) -> None:
        """A device seems to be gone: see what is left, and tell."""
        self._do(self._look())

    def poke(self) -> None:
        """Somebody changed datasets, approvals or settings: judge anew and report."""
        self.report()
        self._do(self._parts.tasks.reconsider())

    def on_log(self, job: str, data: bytes) -> None:
        """Pass on what an app printed, if this node shares logs."""
        if self._settings().share_logs:
            self._link.send(pb.NodeEvent(log=pb.LogChunk(job=job, text=data.decode(errors="replace"))))

    async def close(self) -> None:
        """Stop what is under way."""
        for task in self._doing:
            task.cancel()
        if self._doing:
            await asyncio.wait(self._doing)
        await self._parts.tasks.close()

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _report(self) -> pb.NodeReport:
        parts = self._parts
        return node_report(parts.catalogue, self._settings(), parts.serving.url, parts.devices, parts.leases.on_offer())

    def _welcomed(self, welcome: pb.Welcome) -> None:
        self._file.state.certificate_until = welcome.certificate_until or None
        _log.info("welcomed", node=welcome.node, tenant=welcome.tenant, running_jobs=list(welcome.running_jobs))
        self._do(self._tidy(frozenset(welcome.running_jobs)))

    async def _tidy(self, running: frozenset[str]) -> None:
        for job in self._parts.state.jobs():
            if job not in running:
                await self._parts.tasks.drop_job(job)
        await self._parts.tasks.resend(running)

    async def _prepare(self, asked: pb.Prepare) -> None:
        answer = await self._parts.prepared.prepare(asked, self._settings())
        codes = [denial.code for denial in answer.denials]
        _log.info("job_prepared" if not codes else "job_denied", job=asked.job, app=asked.app_name, denials=codes)
        self._link.send(pb.NodeEvent(prepared=answer))

    async def _look(self) -> None:
        if await asyncio.to_thread(self._parts.devices.scan):
            self.report()

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the agent's outermost guard: one bad event must not end it
            _log.exception("event_failed")
            self._file.state.last_error = f"{type(error).__name__}: {error}"
