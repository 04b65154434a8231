"""One life of a ServerApp's process: it asks, we answer, from the journal first and then from the nodes.

Each answer is committed before the app sees it; so whatever dies, the next life is told the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol, TypeVar

from common.errors import AppFailed, TooFewNodes
from common.failpoints import failpoint
from common.ids import NodeId, task_id
from common.sandbox import Child
from common.units import MIB
from coordinator.domain.exchanges import Exchange, ExchangeKind
from coordinator.domain.jobs import Job
from coordinator.rounds.exchange import Abandon, Close, Wait
from coordinator.services import answers, closing, modes, telling
from coordinator.services.around import Around
from coordinator.services.calls import MAX_METRICS, Call, metrics_of, open_row, parse_call, parse_pull, round_of
from coordinator.services.exchange import LiveExchange
from coordinator.services.finished import Finished
from coordinator.services.jobnodes import JobNodes
from coordinator.services.journal import Journal
from coordinator.services.objects import HeldObject, check_room, close_all, hold, rest
from coordinator.services.pushes import Pushes
from coordinator.services.room import Room

T = TypeVar("T")
_MAX_TOLD = 500_000  # frames of progress and values in them, in one life of an app


class JobInRun(Protocol):
    """What a conversation needs of the job's run, which outlives it."""

    job: Job
    journal: Journal
    live: dict[int, LiveExchange]
    pushes: Pushes
    nodes: JobNodes
    single_replies: bool  # whether the federation lets apps see replies one by one
    minimum_mode: str  # of the federation
    room: Room

    @property
    def ready(self) -> set[NodeId]: ...
    def waits(self, verdict: Wait) -> None: ...
    def changed(self, job: Job) -> None: ...
    async def commit(self, row: Exchange | None) -> None: ...
    async def checkpoint(self, call: Call, held: Sequence[HeldObject]) -> None: ...
    def closed(self, live: LiveExchange) -> None: ...
    def go_live(self, seq: int) -> None: ...
    def trained(self, finished: Finished) -> None: ...


class Conversation:
    """Answers one child until it has finished."""

    def __init__(self, around: Around, run: JobInRun, child: Child) -> None:
        self._around, self._run, self._child = around, run, child
        self._reading: asyncio.Task[tuple[dict[str, Any], list[int]]] | None = None
        self._told, self._means = 0, answers.Told()

    async def hold(self) -> Finished:
        """Answer until the app has finished.

        Raises:
            AppFailed: it failed, crashed, hung or diverged.
            TooFewNodes: an exchange could not reach its minimum.
        """
        try:
            while True:
                message, fds = await self._next()
                finished = await self._answer(message, fds)
                if finished is not None:
                    return finished
        finally:
            self._means.close()
            if self._reading is not None:
                self._reading.cancel()
                await asyncio.gather(self._reading, return_exceptions=True)

    async def _next(self) -> tuple[dict[str, Any], list[int]]:
        if self._reading is None:
            return await self._child.receive(self._around.settings.silence_s)
        await asyncio.wait({self._reading}, timeout=self._around.settings.silence_s)
        if not self._reading.done():
            raise AppFailed("the ServerApp said nothing for too long", reason="app_timeout")
        reading, self._reading = self._reading, None
        return reading.result()

    async def _answer(self, message: dict[str, Any], fds: list[int]) -> Finished | None:
        op = message.get("op")
        if op in {"exchange", "push"}:
            await self._exchange(message, fds)
            return None
        if op == "finished":
            return await self._finished(message, fds)
        if op == "trained":
            self._run.trained(await self._finished(message, fds))
            return None
        close_all(fds)
        if op == "nodes":
            ids = [entry.flower_node_id for entry in self._run.job.roster]
            await self._child.send({"op": "nodes", "ids": ids})
        elif op == "pull":
            await self._pull(parse_pull(message))
        elif op in {"evaluated", "round_done"}:
            self._progress(op, message)
        elif op == "failed":
            detail = str(message.get("message", ""))[:2000] or "the app failed"
            raise AppFailed(detail, reason=str(message.get("reason", "app_raised"))[:40])
        else:
            raise AppFailed(f"the app's process said {str(op)[:40]!r}", reason="protocol_error")
        return None

    async def _exchange(self, message: dict[str, Any], fds: list[int]) -> None:
        settings = self._around.settings
        held = await hold(fds, message.get("objects"), limit=settings.update_bytes, inline=settings.inline_bytes)
        held = rest(held, message.get("bases"), self._means.last)
        owned = False
        try:
            call = parse_call(message, held, self._run.job.roster)
            self._check_room(call, held)
            row = self._run.journal.recorded(call)
            if row is None:
                if self._run.room.full:
                    await self._while_it_lives(self._run.room.wait())
                call, why = await modes.settle(self._run, self._around.store, call)
                if why:
                    await self._child.send({"op": "refused", "reason": "refused", "message": why})
                    return
            if call.kind is ExchangeKind.PUSH:
                owned = await self._push(call, held, row)
            elif row is not None:
                await self._replay(row)
            else:
                owned = await self._owns(call)
                await self._live(call, held)
        finally:
            if not owned:
                for one in held:
                    one.close()

    def _check_room(self, call: Call, held: Sequence[HeldObject]) -> None:
        others = [live for seq, live in self._run.live.items() if seq != self._run.journal.seq]
        objects = [*held, *(each for live in others for each in live.held)]
        messages = sum(len(live.call.instructions) for live in others) + len(call.instructions)
        check_room(objects, messages, self._around.settings.limits.memory_mib * MIB)

    async def _owns(self, call: Call) -> bool:
        """Say whether a new exchange must be opened, or the one that a dead child left is the same."""
        old = self._run.live.get(self._run.journal.seq)
        if old is None:
            return True
        if not old.over and old.call == call:
            return False
        old.end("replaced")
        del self._run.live[old.seq]
        await closing.release(self._around, old)
        return True

    async def _live(self, call: Call, held: Sequence[HeldObject]) -> None:
        run, seq = self._run, self._run.journal.seq
        live = run.live.get(seq)
        if live is None:
            run.go_live(seq)
            live = LiveExchange(self._around, run.job, seq, call, held, run.ready, run.waits)
            run.live[seq] = live
            telling.started(self._around, run.job, call, self._shown_round(call))
            live.open()
            run.nodes.opened(live)
        opened = self._around.clock.now()
        saving = asyncio.create_task(run.checkpoint(call, live.held)) if call.message_type == "train" else None
        verdict = await self._while_it_lives(live.run())
        if saving is not None:
            await saving
        if isinstance(verdict, Abandon):  # it ends with its job, which may keep the model that it sends out
            raise TooFewNodes(verdict.sentence)
        await self._close(live, verdict, opened)

    async def _close(self, live: LiveExchange, verdict: Close, opened: float) -> None:
        run = self._run
        begun = self._around.clock.monotonic()
        closed = await closing.close(self._around, run.job, live, verdict, opened)
        number = self._shown_round(live.call)
        telling.closed(self._around, run.job, live, closed, number, begun)
        run.changed(replace(run.job, round=max(run.job.round, number)))
        await self._record(closed.row)
        await answers.send_replies(self._child, run.job, closed.row, closed.kept, run.journal, self._means)
        run.closed(live)

    async def _record(self, row: Exchange) -> None:
        """Write down what the child is told next; whoever dies in between tells it again from there."""
        await self._run.commit(row)
        failpoint("exchange_closed_before_reply")
        self._run.journal.append(row)

    async def _replay(self, row: Exchange) -> None:
        kept = await answers.recorded_objects(self._around.blobs, self._run.job.tenant, row)
        await answers.send_replies(self._child, self._run.job, row, kept, self._run.journal, self._means)

    async def _push(self, call: Call, held: Sequence[HeldObject], row: Exchange | None) -> bool:
        """Send messages out without waiting; True if their objects are ours to keep open."""
        run = self._run
        seq = row.seq if row is not None else run.journal.seq
        ids = [task_id(run.job.id, seq, i.slot) for i in call.instructions]
        given = run.journal.pulled()
        owned = not run.pushes.has(seq) and not given.issuperset(ids)
        if owned:
            live = LiveExchange(self._around, run.job, seq, call, held, run.ready, run.waits)
            run.live[seq] = live
            run.pushes.add(live, given)
            if row is None:
                fresh = open_row(run.job.id, seq, call, self._around.clock.now())
                await run.commit(fresh)
                run.journal.append(fresh)
                telling.started(self._around, run.job, call, self._shown_round(call))
            live.open()
            run.nodes.opened(live)
        await self._child.send({"op": "pushed", "ids": ids})
        return owned

    async def _pull(self, ids: Sequence[str]) -> None:
        run = self._run
        row = run.journal.recorded_pull(ids)
        if row is not None:
            await self._replay(row)
            return
        ready = await self._while_it_lives(run.pushes.wait(ids)) if run.journal.live else []
        if not ready:
            await self._child.send({"op": "replies", "replies": [], "objects": []})
            return
        row, kept = await run.pushes.take(run.job, run.journal.seq, ids, ready)
        await self._record(row)
        await answers.send_replies(self._child, run.job, row, kept, run.journal, self._means)
        run.pushes.given(ready)

    async def _finished(self, message: dict[str, Any], fds: list[int]) -> Finished:
        size = message.get("object")
        sizes = [] if size is None else [size]
        settings = self._around.settings
        held = await hold(fds, sizes, limit=settings.update_bytes, inline=settings.inline_bytes)
        return Finished(held[0] if held else None, metrics_of(message.get("metrics")), round_of(message))

    async def _while_it_lives(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work``, but stop if the child dies meanwhile: it has nothing to say while it is owed an answer."""
        task = asyncio.ensure_future(work)
        if self._reading is None:
            self._reading = asyncio.create_task(self._child.receive(None))
        try:
            await asyncio.wait({task, self._reading}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            return task.result()
        reading, self._reading = self._reading, None
        _, fds = reading.result()  # raises what became of the child
        close_all(fds)
        raise AppFailed("the app's process spoke while it was owed an answer", reason="protocol_error")

    def _shown_round(self, call: Call) -> int:
        """Return the app's own round, else the number of its training exchanges."""
        return call.round or self._run.journal.trains + (call.message_type == "train")

    def _progress(self, op: str, message: dict[str, Any]) -> None:
        run, number = self._run, round_of(message)
        self._told += 1 + sum(len(table) for table in message.values() if isinstance(table, dict))
        if not run.journal.live or self._told > _MAX_TOLD:
            return  # told in a former life, or told enough: the log and the record are not the app's to fill
        if op == "evaluated":
            metrics = metrics_of(message.get("metrics"))
            self._around.feed.note(run.job.id, "evaluated", round=number, metrics=metrics, source="server")
            found = {f"central.{k}": v for k, v in metrics.items()}
        else:
            train, evaluate = metrics_of(message.get("train")), metrics_of(message.get("evaluate"))
            self._around.feed.note(run.job.id, "round_finished", round=number, train=train, evaluate=evaluate)
            found = {f"train.{k}": v for k, v in train.items()} | {f"evaluate.{k}": v for k, v in evaluate.items()}
        known = {**run.job.metrics, **found}
        run.changed(replace(run.job, metrics=dict(islice(known.items(), MAX_METRICS))))
