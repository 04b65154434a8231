"""A job's run, from its admission to its end: one asyncio task.

Starting *is* recovering: what the store knows says where to go on.  Whatever the job's process, a node or this
coordinator does, the run ends in one of the final states with a sentence, or goes on after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import structlog

from common.errors import AppFailed, LeaseLost, PlatformError, Unreachable
from common.failpoints import failpoint
from common.ids import NodeId
from coordinator.domain.denials import Denial
from coordinator.domain.exchanges import Exchange
from coordinator.domain.jobs import FINAL, Job, JobEvent, JobState, advance
from coordinator.domain.nodes import Node
from coordinator.ports.store import Tx
from coordinator.rounds.exchange import Wait
from coordinator.services import closing, ending, offers, telling
from coordinator.services.around import Around
from coordinator.services.calls import Call
from coordinator.services.conversation import Conversation
from coordinator.services.exchange import LiveExchange
from coordinator.services.finished import Finished
from coordinator.services.jobnodes import JobNodes
from coordinator.services.journal import Journal
from coordinator.services.objects import HeldObject
from coordinator.services.pushes import Pushes
from coordinator.services.room import Room
from coordinator.services.roster import Assembly, federation_nodes
from coordinator.services.sidetasks import SideTasks

_log = structlog.get_logger()
_START_AGAIN = frozenset({"app_crashed", "app_killed"})  # accidents of the process, not of the app


class JobRun:
    """One unfinished job.

    Args:
        around: Services.
        job: As the store has it.
        rows: Its journal.
    """

    def __init__(self, around: Around, job: Job, rows: Sequence[Exchange]) -> None:
        self.around, self.job = around, job
        self.journal = Journal(job.id, rows)
        self.live: dict[int, LiveExchange] = {}
        self.nodes = JobNodes(around, lambda: self.job, self.live)
        self.pushes = Pushes(around, job.id, self.closed)
        self.single_replies, self.minimum_mode = False, "plain"
        self.room = Room(around, lambda: self.job, partial(self.stands, stalled=True))
        self.cancelled_by = ""
        self._trained: Finished | None = None  # told by the app before its end
        self._ending = self._went_live = False
        self._side = SideTasks()

    async def run(self) -> None:
        """Bring the job to its end."""
        structlog.contextvars.bind_contextvars(job=self.job.id, tenant=self.job.tenant)
        finished: Finished | None = None
        try:
            await self.around.places.take(self.job, self.stands)
            self.job = replace(self.job, note="")
            await self._prepare()
            finished = await self._train()
            await self._publish(finished)
            await self._end(JobEvent.PUBLISHED, "", "")
        except asyncio.CancelledError:
            if not self.cancelled_by:
                raise  # the coordinator stops; the job goes on when it is back
            await self._end(JobEvent.CANCELLED, "cancelled", f"cancelled by {self.cancelled_by}")
        except (LeaseLost, Unreachable):
            raise  # another coordinator has taken over; or the stores are away, and it is taken up again
        except PlatformError as error:
            if self._ending:
                raise  # how it ended is not written down: it is taken up again
            reason = error.reason if isinstance(error, AppFailed) else error.code
            await self._fail(reason, error.detail)
        except Exception as error:  # the outermost guard of the loop: one job must not take others along
            if self._ending:
                raise
            _log.exception("job_broke")
            await self._fail("internal_error", f"{type(error).__name__}: {error}")
        finally:
            self.around.places.give(self.job)
            await self._let_go(finished)

    # -- what the conversation asks of its job

    @property
    def ready(self) -> set[NodeId]:
        """Return the nodes that have the app prepared on their present connection."""
        return self.nodes.ready

    def waits(self, verdict: Wait) -> None:
        """An exchange takes longer: say whom it waits for."""
        self.stands(verdict.sentence, stalled=verdict.stalled)

    def stands(self, sentence: str, *, stalled: bool = False) -> None:
        """Say why the job goes on later; ``stalled``: people should act."""
        if stalled and self.job.state is JobState.RUNNING:
            self._note_state(JobEvent.STALLED, sentence)
        else:
            self.job = replace(self.job, note=sentence[:2000])
        self.around.feed.note(self.job.id, "job_waiting", sentence=sentence, stalled=stalled)
        self._side.start(self.commit(None))

    def changed(self, job: Job) -> None:
        """Take a changed record; it is written with the next commit."""
        self.job = job

    async def commit(self, row: Exchange | None) -> None:
        """Write the job, and a row of the journal, in one transaction."""
        if row is not None:
            if self.job.state is JobState.WAITING:
                self._note_state(JobEvent.RESUMED, "")
            elif self.job.note:
                self.job = replace(self.job, note="")
        job = self.job

        def work(tx: Tx) -> bool:
            tx.jobs.put(job)
            if row is None:
                return False
            tx.jobs.put_exchange(row)
            return self.room.book(tx, row)

        self.room.full |= bool(await self.around.feed.commit(job.id, work))

    async def checkpoint(self, call: Call, held: Sequence[HeldObject]) -> None:
        """Publish the model of the round before, which this round's broadcast carries, if one is due."""
        await ending.checkpoint(self.around, self.job, call, held, self.journal)

    def closed(self, live: LiveExchange) -> None:
        """An exchange is over and journalled."""
        closing.end_exchange(self.around, self.job, live)
        self.live.pop(live.seq, None)
        self._side.start(closing.release(self.around, live))

    def go_live(self, seq: int) -> None:
        """The app is past what is recorded: leases of exchanges that are closed go back."""
        if not self._went_live:
            self._went_live = True
            still = {f"{self.job.id}/{number}" for number in (*self.live, seq)}
            self.around.schedule.release(self.job.id, "closed", keep=still)

    def trained(self, finished: Finished) -> None:
        """The app has trained this much; it counts if the job fails from here."""
        ending.drop(self._trained)
        self._trained = finished

    def is_past(self, seq: int) -> bool:
        """Say whether the exchange of that number is closed and journalled."""
        return any(row.seq == seq for row in self.journal.rows)

    def cancel(self, by: str, task: asyncio.Task[None]) -> None:
        """End the job without a result."""
        if not self.cancelled_by and not self._ending:  # an end that has begun is never torn in the middle
            self.cancelled_by = by
            task.cancel()

    # -- the steps

    async def _prepare(self) -> None:
        job = self.job
        federation, _ = await self.around.store.read(lambda tx: federation_nodes(tx, job))
        app = await self.around.store.read(lambda tx: tx.apps.get(job.app, job.tenant))
        self.single_replies, self.minimum_mode = offers.may_see_single_replies(job, federation), federation.minimum_mode
        self.nodes.question = offers.prepare(job, app[2] if app is not None else 0)
        self.nodes.members = federation.accepted
        await ending.unpack_app(self.around, job)

    async def _train(self) -> Finished:
        """Gather the roster and let the app run; an app that wants more nodes before its first round waits for them."""
        minimum = self.job.spec.cohort.minimum
        while True:
            if not self.job.roster:
                await self._assemble(minimum)
            try:
                return await self._serve()
            except AppFailed as error:
                if error.reason != "too_few_nodes" or self.journal.length:
                    raise
                minimum = len(self.job.roster) + 1
                self._note_state(JobEvent.STALLED, error.detail)
                self.job = replace(self.job, roster=())

    async def _assemble(self, minimum: int) -> None:
        question = self.nodes.question
        if question is None:
            raise TypeError("prepare comes first")
        assembly = Assembly(self.around, self.job, question, self.nodes.ready, self._lacking, minimum)
        self.nodes.assembly = assembly
        roster = await assembly.gather()
        self.nodes.assembly = None
        state, now = advance(self.job.state, JobEvent.STARTED), self.around.clock.now()
        self.job = replace(self.job, roster=roster, started_at=now, note="", state=state)
        self.around.feed.note(self.job.id, "roster_fixed", nodes=[n.name for n in roster], count=len(roster))
        await self.commit(None)
        failpoint("roster_fixed")

    async def _lacking(self, sentence: str, denied: Sequence[tuple[Node, Sequence[Denial]]]) -> None:
        self._note_state(JobEvent.STALLED, sentence)
        telling.lacking(self.around, self.job, sentence, denied)
        await self.commit(None)

    async def _serve(self) -> Finished:
        """Let the ServerApp run to its end, in as many lives as it takes."""
        if self.job.state is JobState.WAITING:
            self._note_state(JobEvent.RESUMED, "")
        self.nodes.ask_roster()
        if self.journal.length:
            self.around.feed.note(self.job.id, "job_resumed", replayed=self.journal.length)
        falls, fallen_at = 0, -1
        while True:
            try:
                return await self._one_life()
            except AppFailed as error:
                falls = falls + 1 if self.journal.length == fallen_at else 1
                fallen_at = self.journal.length
                if error.reason not in _START_AGAIN or falls >= self.around.settings.restarts:
                    raise
                self.around.feed.note(self.job.id, "serverapp_restarted", reason=error.reason, message=error.detail)
                self.journal.rewind()

    async def _one_life(self) -> Finished:
        child = await ending.launch_app(self.around, self.job)
        try:
            await child.send(ending.start_frame(self.around, self.job, individual=self.single_replies))
            message, _ = await child.receive(self.around.settings.limits.start_s)
            if message.get("op") != "ready":
                detail = str(message.get("message", "the app did not start"))[:2000]
                raise AppFailed(detail, reason=str(message.get("reason", "app_raised"))[:40])
            return await Conversation(self.around, self, child).hold()
        finally:
            await child.end()

    async def _publish(self, finished: Finished) -> None:
        self.job = replace(self.job, metrics={**self.job.metrics, **finished.metrics})
        if self.job.state is JobState.WAITING:
            self._note_state(JobEvent.RESUMED, "")
        if self.job.state is not JobState.PUBLISHING:
            self._note_state(JobEvent.APP_FINISHED, "")
        await self.commit(None)
        failpoint("job_finished_before_publish")
        if finished.result is None:
            self.around.feed.note(self.job.id, "no_model", message="the app ended without arrays to publish")
            return
        result, included = finished.result, self.journal.last_included or len(self.job.roster)
        version = await self.room.until(lambda: ending.publish(self.around, self.job, self.job.round, result, included))
        try:
            await self.around.deployments.after_publish(self.job, version)
        except PlatformError as error:  # the version is there; bringing it to nodes can be asked for again
            self.around.feed.note(self.job.id, "deployment_failed", code=error.code, message=error.detail)

    async def _fail(self, reason: str, note: str) -> None:
        """End the job as failed; what it has trained is kept as a version that no alias names."""
        kept = await ending.keep(self.around, self.job, self._trained, self.live.values(), self.journal)
        await self._end(JobEvent.FAILED, reason, f"{note[:1500]}{kept}")

    async def _end(self, event: JobEvent, reason: str, note: str) -> None:
        if self.job.state in FINAL:
            return
        self._ending = True
        self.nodes.assembly = None
        for live in self.live.values():
            live.end("job_ended")  # before the log says so: nothing comes after its last line
        self.job = replace(
            self.job,
            state=advance(self.job.state, event),
            reason=reason,
            note=note[:2000],
            ended_at=self.around.clock.now(),
        )
        self.around.feed.note(
            self.job.id, f"job_{self.job.state}", reason=reason, message=note[:2000], metrics=self.job.metrics
        )
        await self.commit(None)
        await ending.clean_up(self.around, self.job, self.journal.rows, self.nodes.ready)

    def _note_state(self, event: JobEvent, note: str) -> None:
        self.job = replace(self.job, state=advance(self.job.state, event), note=note[:2000])

    async def _let_go(self, finished: Finished | None) -> None:
        ending.drop(finished, self._trained)
        for live in list(self.live.values()):
            live.end("job_ended")
            self._side.start(closing.release(self.around, live))
        self.live.clear()
        self.around.schedule.release(self.job.id, "job_ended")
        await self._side.wait()
        structlog.contextvars.unbind_contextvars("job", "tenant")
