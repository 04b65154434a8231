"""The desk: every unfinished job has a run, and what the nodes say is passed to the run it concerns.

Implements ``coordinator.ports.link.LinkEvents``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from common.errors import IllegalTransition, LeaseLost, NotFound, QuotaExceeded
from common.ids import Digest, JobId, NodeId, TaskId, TenantId
from common.wire import hansa_node_pb2 as pb
from coordinator.domain.denials import Denial
from coordinator.domain.exchanges import Exchange
from coordinator.domain.jobs import FINAL, UNFINISHED, Job, JobState
from coordinator.domain.nodes import NodeReport
from coordinator.domain.tenancy import Federation
from coordinator.ports.link import Awaited, Offered, SpooledUpdate
from coordinator.rounds.slots import SlotState
from coordinator.services.around import Around
from coordinator.services.exchange import LiveExchange
from coordinator.services.machines import machine_of
from coordinator.services.nodelogs import NodeLogs
from coordinator.services.resting import Resting
from coordinator.services.runner import JobRun
from coordinator.services.sidetasks import SideTasks

_log = structlog.get_logger()
_PAGE = 1000


class JobDesk:
    """Runs jobs."""

    def __init__(self, around: Around) -> None:
        self._around, self.grant = around, around.schedule.grant
        self._runs: dict[JobId, tuple[JobRun, asyncio.Task[None]]] = {}
        self._side = SideTasks()
        self._resting = Resting(self._take_up, around.settings.again_s)
        self._closed = False
        self.superseded = asyncio.Event()  # another coordinator has taken a newer epoch: stop
        self._logs = NodeLogs(around.settings.jobs_dir)

    # -- jobs

    async def start(self) -> None:
        """Take up every unfinished job where it was left."""
        await self._around.allowances.start()
        jobs: list[Job] = []
        while True:
            after = (jobs[-1].created_at, str(jobs[-1].id)) if jobs else None
            page = await self._around.store.read(
                lambda tx, cursor=after: list(tx.jobs.list(states=UNFINISHED, after=cursor, limit=_PAGE))  # type: ignore[misc]
            )
            jobs += page
            if len(page) < _PAGE:
                break
        grants = await self._around.store.read(lambda tx: list(tx.quotas.grants()))
        self._around.estimates.restore(await self._around.schedule.journal.learn(self._around.estimates.record))
        await self._around.schedule.start([job.id for job in jobs], grants)
        # Who had begun keeps its running place; of the others, who came first asks first.
        for job in sorted(jobs, key=lambda j: (j.state is JobState.QUEUED, j.created_at, j.id)):
            await self._run(job)

    async def admit(self, job: Job) -> None:
        """Start a job that was just submitted."""
        self._begin(job, ())

    def federation_changed(self, federation: Federation) -> None:
        """Tenants came or left: the federation's running jobs go on with those that are in it."""
        for run in [run for run, _ in self._runs.values() if run.job.federation == federation.id]:
            run.nodes.federation_changed(federation)

    async def cancel(self, job_id: JobId, by: str) -> None:
        """End a job without a result; returns when it is over.

        Raises:
            NotFound: no such job.
            IllegalTransition: it has ended already.
            Unreachable: its end could not be written down; it goes on.
        """
        await self._resting.wake(job_id)
        found = self._runs.get(job_id)
        if found is None:
            job = await self._around.store.read(lambda tx: tx.jobs.get(job_id))
            if job is None:
                raise NotFound(f"no job {job_id}")
            raise IllegalTransition(f"job {job_id} is {job.state} already")
        run, task = found
        run.cancel(by, task)
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def close(self) -> None:
        """Stop every run where it is; the jobs go on when a coordinator starts here again."""
        self._closed = True
        await self._around.schedule.close()  # first: leases are not given back, they go on after us
        self._resting.close()
        for task in (tasks := [task for _, task in self._runs.values()]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._side.wait()
        await self._around.feed.close()
        self._around.collector.close()

    async def _run(self, job: Job) -> None:
        rows = await self._around.store.read(lambda tx: tx.jobs.exchanges(job.id))
        self._begin(job, rows)

    async def _take_up(self, job_id: JobId) -> None:
        job = await self._around.store.read(lambda tx: tx.jobs.get(job_id))
        if job is not None and job.state not in FINAL:
            await self._run(job)

    def _begin(self, job: Job, rows: Sequence[Exchange]) -> None:
        if job.id in self._runs or self._closed:
            return
        run = JobRun(self._around, job, rows)
        task = asyncio.create_task(run.run(), name=f"job {job.id}")
        self._runs[job.id] = (run, task)
        task.add_done_callback(lambda _: self._over(job.id))

    def _over(self, job: JobId) -> None:
        run, task = self._runs.pop(job)
        self._around.feed.forget(run.job)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("job_run_failed", job=job, error=repr(error))
        if isinstance(error, LeaseLost):
            self.superseded.set()
        elif error is not None and not self._closed:
            self._resting.rest(run)

    # -- what the node link tells

    async def node_connected(
        self, node: NodeId, report: NodeReport, held: dict[TaskId, tuple[Digest, int, Digest]]
    ) -> list[JobId]:
        """A node said hello; return the jobs that still need what it keeps."""
        await self._around.presence.came(node, report)
        self._lends(node, report)
        concerned = [run for run, _ in self._runs.values() if run.nodes.concerned(node)]
        for run in concerned:
            run.nodes.connected(node)
        self._side.start(self._around.deployments.node_connected(node))
        if held:
            _log.info("node_keeps_updates", node=node, tasks=len(held))
        return [run.job.id for run in concerned] + self._resting.of(node)

    async def node_reported(self, node: NodeId, report: NodeReport) -> None:
        """A node said something new of itself."""
        await self._around.presence.reported(node, report)
        self._lends(node, report)
        for run, _ in list(self._runs.values()):
            run.nodes.reported(node)

    async def node_disconnected(self, node: NodeId) -> None:
        """A node's stream ended."""
        self._around.schedule.leave(node)
        await self._around.presence.left(node)
        for run, _ in list(self._runs.values()):
            run.nodes.gone(node)

    def _lends(self, node: NodeId, report: NodeReport) -> None:
        site = self._around.presence.tenant(node)
        if site is not None and self._around.presence.here(node):
            self._around.schedule.come(machine_of(node, site, report))

    async def node_prepared(self, node: NodeId, job: JobId, denials: tuple[tuple[str, str], ...]) -> None:
        """A node answered whether a job may run there."""
        found = self._runs.get(job)
        if found is not None and found[0].nodes.concerned(node):
            found[0].nodes.prepared(node, tuple(Denial(code, message) for code, message in denials))

    async def task_status(self, node: NodeId, status: pb.TaskStatus) -> None:
        """A node says how far a task is."""
        run, live, slot = self._find(node, TaskId(status.task))
        if live is None:
            return
        news = live.status(slot, status)
        if news is not None and news.state in {SlotState.FAILED, SlotState.DENIED, SlotState.PENDING}:
            self._around.feed.note(
                run.job.id, "node_failed", node=news.name, round=live.call.round, reason=news.reason,
                message=news.message, retried=news.state is SlotState.PENDING,
            )  # fmt: skip

    async def mask_word(self, node: NodeId, word: pb.MaskWord) -> None:
        """A node's part in a masked sum."""
        _, live, slot = self._find(node, TaskId(word.task))
        if live is not None:
            live.parts.said(slot, word)

    async def deploy_status(self, node: NodeId, status: pb.DeployStatus) -> None:
        """A node says what it serves."""
        await self._around.deployments.deploy_status(node, status)

    async def log_chunk(self, node: NodeId, job: JobId, text: str) -> None:
        """A node shares what an app printed there."""
        found = self._runs.get(job)
        if found is None:
            return
        entry = next((entry for entry in found[0].job.roster if entry.node == node), None)
        if entry is not None:
            await self._logs.append(job, entry, text)

    async def may_download(self, node: NodeId, digest: Digest, job: str, model: str) -> Offered:
        """Return the content of that digest and whom it was offered to.

        Raises:
            NotFound: nothing offered for a job or model of this node has that digest.
        """
        found = await (self._model_file(node, model, digest) if model else self._job_file(node, JobId(job), digest))
        if found is None:
            raise NotFound(f"nothing offered to this node has the digest {digest}")
        return found

    async def may_upload(self, node: NodeId, task: TaskId, digest: Digest, size: int) -> Awaited:  # noqa: ARG002 - the port's
        """Say whether the update is wanted now, and from whom.

        Raises:
            NotFound: no such task, or of a job that is not this node's.
            QuotaExceeded: larger than an update may be.
            LeaseLost: its exchange is not open yet; it will be offered again.
        """
        if size > self._around.settings.update_bytes:
            limit = self._around.settings.update_bytes
            raise QuotaExceeded(f"an update of {size} bytes is over the limit of {limit}")
        job = JobId(task.split("/", 1)[0])
        if job not in self._runs and (tenant := await self._ended(job, node)) is not None:
            return Awaited(False, tenant, node)
        run, live, slot = self._around_node(node, task)
        if live is not None:
            return Awaited(live.parts.wants(slot), run.job.tenant, live.round.slots[slot].node)
        if run.is_past(int(task.split("/")[1])):
            return Awaited(False, run.job.tenant, node)
        raise LeaseLost(f"task {task} is not open yet; it is offered again soon", code="not_open")

    async def update_received(self, update: SpooledUpdate) -> tuple[bool, str, str]:
        """Verify a spooled update and take it into its exchange."""
        run, live, slot = self._find(update.node, update.task)
        if live is None:
            return False, "late", "the exchange has closed"
        accepted, fault = await live.parts.take(slot, update)
        about = {"node": live.roster[update.node].name, "round": live.call.round}
        if fault is not None:
            self._around.feed.note(run.job.id, "update_dropped", **about, code=fault.code, message=fault.message)
            return False, fault.code, fault.message
        if not accepted:
            return False, "late", "the exchange did not wait for it"
        kind = live.call.message_type
        self._around.feed.note(run.job.id, "update_received", **about, kind=kind, bytes=update.size)
        return True, "", ""

    def _find(self, node: NodeId, task: TaskId) -> tuple[JobRun, LiveExchange | None, int]:
        """Return the run, the open exchange if it is open, and the slot of a task of this node.

        Raises:
            NotFound: no such task for this node.
        """
        run, live, slot = self._around_node(node, task)
        if live is not None and live.round.slots[slot].node != node:
            raise NotFound(f"no task {task} for this node")
        return run, live, slot

    def _around_node(self, node: NodeId, task: TaskId) -> tuple[JobRun, LiveExchange | None, int]:
        """Return the same of a task of any node, in a job of this node."""
        job, seq, slot = task.split("/")
        found = self._runs.get(JobId(job))
        live = found[0].live.get(int(seq)) if found is not None else None
        if found is None or not found[0].nodes.concerned(node) or (live and int(slot) not in live.round.slots):
            raise NotFound(f"no task {task} for this node")
        return found[0], live, int(slot)

    async def _ended(self, job: JobId, node: NodeId) -> TenantId | None:
        """Return whose job it was if it is over."""
        record = await self._around.store.read(lambda tx: tx.jobs.get(job))
        if record is None or all(entry.node != node for entry in record.roster):
            raise NotFound(f"no job {job} for this node")
        return record.tenant if record.state in FINAL else None

    async def _job_file(self, node: NodeId, job: JobId, digest: Digest) -> Offered | None:
        found = self._runs.get(job)
        if found is None or not found[0].nodes.concerned(node):
            return None
        run = found[0]
        if digest == run.job.bundle:
            return Offered(await self._around.blobs.open(run.job.tenant, digest), run.job.tenant, node)
        sent = [each for live in run.live.values() if (each := live.find(node, digest)) is not None]
        if not sent:
            return None
        path, whose = next((each for each in sent if each[1] == node), sent[0])
        return Offered(path, run.job.tenant, whose)

    async def _model_file(self, node: NodeId, model: str, digest: Digest) -> Offered | None:
        path = await self._around.deployments.may_download(node, model, digest)
        return Offered(path, TenantId(model.partition("/")[0]), node) if path is not None else None
