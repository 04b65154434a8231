"""The life of a task at the node: consent, fetch, run, keep, upload; and every way it can end early.

A lease is a duration from acceptance on this node's monotonic clock; when it is over the app's process group is
killed.  The reply is durable before the last of it leaves, and stays there until the exchange is closed; what leaves
before that, while the disk still works, is no update to anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from client_node.guard.consent import MASKED_ONLY, Denial
from client_node.guard.errors import without_words
from client_node.ports.link import Link
from client_node.ports.state import KeptUpdate, Position
from client_node.services.finishing import dropped, stopped, to_its_end
from client_node.services.instructions import Fetched
from client_node.services.judge import Judge
from client_node.services.leased_apps import LeasedApps
from client_node.services.leases import HeldLease
from client_node.services.local_jobs import LocalJob, LocalJobs
from client_node.services.offers import PreparedJob, read_offer
from client_node.services.protect import Protection
from client_node.services.sending import send_update
from client_node.services.updates import Reply
from client_node.services.warm_app import FRESH
from client_node.settings import NodeSettings
from common.errors import AppFailed, PlatformError
from common.failpoints import failpoint
from common.units import GIB
from common.wire import hansa_node_pb2 as pb

_log = structlog.get_logger()
MAX_REPLY = 8 * GIB  # bytes; the coordinator has its own, tighter limit
_KILLED = frozenset({"app_killed", "app_crashed"})  # may be the machine's fault: tried once more


@dataclass
class RunningTask:
    """A task this node is busy with."""

    offer: pb.TaskOffer
    position: Position
    work: asyncio.Task[None]
    held: HeldLease | None = None
    said: pb.TaskStatus | None = None  # the last word on it, said again when it is offered again


class Tasks:
    """All tasks of this node, of all jobs."""

    def __init__(
        self,
        link: Link,
        judge: Judge,
        jobs: LocalJobs,
        protection: Protection,
        leased: LeasedApps,
        settings: Callable[[], NodeSettings],
        on_change: Callable[[], None],
    ) -> None:
        self._link = link
        self._judge = judge
        self._jobs = jobs
        self._kept = protection.kept
        self._protection = protection
        self._leased = leased
        self._settings = settings
        self._on_change = on_change
        self._slots = asyncio.Semaphore(settings().slots)
        self.running: dict[str, RunningTask] = {}

    # ---- what the coordinator asks ----------------------------------------------------------------------------------

    def offered(self, offer: pb.TaskOffer) -> None:
        """Take a task on; the same one again is answered from where it stands."""
        try:
            position = read_offer(offer)
        except PlatformError as error:
            self._failed(offer.task, error.code, error.detail)
            return
        busy = self.running.get(offer.task)
        if busy is not None and busy.offer.content.digest == offer.content.digest:
            if busy.said is not None:
                self._link.send(pb.NodeEvent(task=busy.said))
            return
        self._begin(offer, position, self._answer(offer, position), after=busy)

    async def cancel(self, task: str) -> None:
        """Stop work on a task; its app is killed if it is at it."""
        busy = self.running.get(task)
        if busy is not None:
            await stopped(busy.work)

    async def close_exchange(self, job: str, seq: int) -> None:
        """Nobody needs the exchange's updates any more."""
        await self._stop(lambda busy: busy.offer.job == job and busy.offer.seq == seq)
        still = tuple(busy.position for busy in self.running.values() if busy.offer.job == job)
        await asyncio.to_thread(self._kept.close_exchange, job, seq, still)
        await self._protection.close(job, seq)

    async def drop_job(self, job: str) -> None:
        """Forget a job: its tasks, its app, its updates and its state."""
        await self._stop(lambda busy: busy.offer.job == job)
        await self._jobs.close(job)
        await asyncio.to_thread(self._kept.drop_job, job)
        await self._protection.close(job)
        await self._jobs.tidy()

    async def resend(self, jobs: frozenset[str]) -> None:
        """Send the kept updates of ``jobs`` again; the coordinator says which it still needs."""
        for kept in self._kept.held():
            if kept.job in jobs and kept.task not in self.running and not kept.private:
                offer = pb.TaskOffer(task=kept.task, job=kept.job, seq=kept.position.seq, slot=kept.position.slot)
                offer.content.digest = kept.content
                self._begin(offer, kept.position, self._deliver(kept), after=None)

    async def reconsider(self) -> None:
        """Judge every running job anew, after the steward or operator changed something."""
        for held in self._leased.leases.held():
            if denials := self._leased.leases.still(held):
                await self.cancel(held.lease.task)
                self._deny(held.lease.task, denials)
        for here in self._jobs.opened():
            if denials := self._judge.consider(here.job.request):
                name = here.job.request.job
                for task in [t for t, busy in self.running.items() if busy.offer.job == name]:
                    await self.cancel(task)
                    self._deny(task, denials)
                await here.app.end()

    async def close(self) -> None:
        """Stop everything and end every app; what is kept stays kept."""
        await self._stop(lambda _busy: True)
        await self._leased.close()
        await self._jobs.close_all()

    # ---- one task ---------------------------------------------------------------------------------------------------

    def _begin(
        self, offer: pb.TaskOffer, position: Position, work: Coroutine[None, None, None], after: RunningTask | None
    ) -> None:
        task = asyncio.create_task(self._guarded(offer.task, work, after), name=offer.task)
        self.running[offer.task] = RunningTask(offer, position, task)

        def done(finished: asyncio.Task[None]) -> None:
            work.close()  # it never began, if the task was cancelled before its first step
            if self.running[offer.task].work is finished:
                del self.running[offer.task]
            self._on_change()

        task.add_done_callback(done)

    async def _guarded(self, task: str, work: Coroutine[None, None, None], after: RunningTask | None) -> None:
        try:
            if after is not None:
                await stopped(after.work)
            await work
        except PlatformError as error:
            reason = error.reason if isinstance(error, AppFailed) else error.code
            _log.warning("task_failed", task=task, reason=reason, detail=error.detail)
            shared = error.detail if self._settings().share_errors else without_words(reason, error.detail)
            self._failed(task, reason, shared)
        except Exception as error:  # noqa: BLE001 - the task's outermost guard: it must end with a status
            _log.exception("task_broke", task=task)
            message = error.strerror if isinstance(error, OSError) else type(error).__name__
            self._failed(task, "node_error", f"the node itself failed: {message}")

    async def _answer(self, offer: pb.TaskOffer, position: Position) -> None:
        kept, masked = self._kept.find(offer.task, offer.content.digest), offer.HasField("mask")
        if kept is not None and not masked:
            if kept.private:
                self._deny(offer.task, (MASKED_ONLY,))
            else:
                await self._deliver(kept)
            return
        job = self._jobs.find(offer.job)
        if job is None:
            raise AppFailed(f"job {offer.job} was not prepared at this node", reason="node_error")
        leases = self._leased.leases
        lease = leases.read(offer, job)
        consent = self._judge.consider_reply(job.request, fold=offer.fold, masked=masked)
        if denials := (*consent, *(leases.refusals(lease) if kept is None else ())):
            self._deny(offer.task, denials)
            return
        if kept is not None:
            await self._protection.begin(offer, job, kept)
            return
        async with self._leased.hold(lease) as held:
            self.running[offer.task].held = held
            self._say(pb.TaskStatus(task=offer.task, state=pb.TaskStatus.ACCEPTED))
            self._on_change()
            failpoint("task_accepted")
            durable = asyncio.Event()
            kept, sending = await self._train(offer, position, job, held, durable)
            leases.finish(held)
            if sending is None:
                await self._protection.begin(offer, job, kept)
                return
            self._ready(kept)
            durable.set()
            await sending

    async def _train(
        self, offer: pb.TaskOffer, position: Position, job: PreparedJob, held: HeldLease, durable: asyncio.Event
    ) -> tuple[KeptUpdate, asyncio.Task[None] | None]:
        """Return the reply, kept, and what sends it; None: it does not leave the node as it is."""
        until = asyncio.get_running_loop().time() + offer.lease_s
        here = await self._jobs.open(job)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout_at(until):
                    await stack.enter_async_context(here.turn)
                    reply = await self._reply(here, offer, position, held)
            except TimeoutError:
                raise AppFailed(
                    f"the lease of {offer.lease_s:g} s was over before the app had answered", reason="lease_expired"
                ) from None
            stack.callback(reply.close)
            failpoint("task_trained_before_keep")
            write = asyncio.to_thread(
                self._kept.write, offer.task, offer.job, position, offer.content.digest, reply, MAX_REPLY,
                private=offer.HasField("mask"),
            )  # fmt: skip
            written = await to_its_end(write)
            update = written.update
            sending = None if update.private else asyncio.create_task(self._send(update, durable))
            try:
                await to_its_end(asyncio.to_thread(self._kept.commit, written))
            except BaseException:
                if sending is not None:
                    await dropped(sending)
                raise
            after = self._kept.state_before(offer.job, Position(position.seq, position.slot + 1))
            here.app.remember(after.file if after else FRESH)
            return update, sending

    async def _reply(self, here: LocalJob, offer: pb.TaskOffer, position: Position, held: HeldLease) -> Reply:
        instruction, read = await here.instructions.fetch(self._link, offer), False
        try:
            await held.recorded()
            async with self._slots:
                self._say(pb.TaskStatus(task=offer.task, state=pb.TaskStatus.RUNNING))
                reply = await self._run(here, offer, held, instruction, position)
            read = reply.read and not self._protection.needs(offer, instruction)
            return reply
        finally:
            here.instructions.done(instruction, read=read)

    async def _run(
        self, here: LocalJob, offer: pb.TaskOffer, held: HeldLease, instruction: Fetched, position: Position
    ) -> Reply:
        state = self._kept.state_before(offer.job, position)
        path = self._kept.state_path(state) if state else None
        try:
            return await here.app.run(offer, held, instruction, path)
        except AppFailed as error:
            if error.reason not in _KILLED:
                raise
            _log.warning("app_killed_once", task=offer.task, detail=error.detail)
        return await here.app.run(offer, held, instruction, path)

    async def _deliver(self, kept: KeptUpdate) -> None:
        self._ready(kept)
        await self._send(kept)

    async def _send(self, kept: KeptUpdate, durable: asyncio.Event | None = None) -> None:
        await send_update(self._link, kept.task, self._kept.path(kept), kept.digest, kept.size, durable)

    # ---- words ------------------------------------------------------------------------------------------------------

    def _say(self, status: pb.TaskStatus) -> None:
        if (busy := self.running.get(status.task)) is not None:
            if busy.held is not None:
                status.enforcement.extend(self._leased.leases.measures(busy.held))
                status.held_s, status.peak_mib = busy.held.held_s or 0.0, busy.held.peak_mib
            busy.said = status
        self._link.send(pb.NodeEvent(task=status))

    def _ready(self, kept: KeptUpdate) -> None:
        self._say(pb.TaskStatus(task=kept.task, state=pb.TaskStatus.READY, digest=kept.digest, size=kept.size))

    def _failed(self, task: str, reason: str, message: str) -> None:
        self._say(pb.TaskStatus(task=task, state=pb.TaskStatus.FAILED, reason=reason, message=message))

    def _deny(self, task: str, denials: tuple[Denial, ...]) -> None:
        told = [pb.Denial(code=d.code, message=d.text) for d in denials]
        message = "; ".join(d.message for d in denials)
        denied, reason = pb.TaskStatus.DENIED, denials[0].code
        self._protection.refused(task, reason, message)
        self._say(pb.TaskStatus(task=task, state=denied, reason=reason, message=message, denials=told))

    async def _stop(self, which: Callable[[RunningTask], bool]) -> None:
        for busy in [busy for busy in self.running.values() if which(busy)]:
            await stopped(busy.work)
