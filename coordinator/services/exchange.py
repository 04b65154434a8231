"""One exchange with the nodes, live: tasks are offered, statuses and updates come in, the core says when it closes.

Nothing here is durable: until the exchange is closed and journalled the updates stay at their nodes, and after a crash
the same tasks are offered again under the same ids.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from common.errors import IllegalTransition
from common.failpoints import failpoint
from common.ids import NodeId, TaskId, task_id
from common.wire import hansa_node_pb2 as pb
from coordinator.aggregation.verify import Fault
from coordinator.domain.exchanges import ExchangeKind
from coordinator.domain.jobs import Job, RosterEntry
from coordinator.rounds.exchange import Abandon, Close, ExchangeRound, Slot, Terms, Wait, new_round
from coordinator.rounds.slots import OPEN, SlotEvent, SlotState
from coordinator.scheduling.records import Lease
from coordinator.services import offers
from coordinator.services.around import Around
from coordinator.services.asking import Asking
from coordinator.services.calls import Call
from coordinator.services.masking import Masking
from coordinator.services.objects import HeldObject, reference_of
from coordinator.services.updates import Updates

_QUIET_S = 1.0  # seconds an exchange may take before anybody is told whom it waits for
_BUSY_S = 1.0  # until a node whose device is not free yet is asked again
_NOT_YET = frozenset({"no_device", "device_full"})  # by its own books; who ran there before may still be ending
_State = pb.TaskStatus.State


class LiveExchange:
    """One exchange or push at the journal's frontier.

    Args:
        around: Services.
        job: The job; its roster is fixed.
        seq: Number in the journal.
        call: What the app asked for.
        held: The objects it sends, ours to close.
        ready: Nodes that have the app prepared on their present connection; shared with the job's run.
        on_wait: Told what is waited for, once it takes longer.
    """

    def __init__(
        self,
        around: Around,
        job: Job,
        seq: int,
        call: Call,
        held: Sequence[HeldObject],
        ready: set[NodeId],
        on_wait: Callable[[Wait], None],
    ) -> None:
        self._around, self.job, self.seq, self.call, self.held = around, job, seq, call, held
        self.ready, self._on_wait = ready, on_wait
        self.roster: Mapping[NodeId, RosterEntry] = {entry.node: entry for entry in job.roster}
        self.opened_at = around.clock.monotonic()
        self.round: ExchangeRound = new_round(
            self._terms(), [(i.slot, i.node, self.roster[i.node].name) for i in call.instructions]
        )
        self.changed = asyncio.Event()  # set whenever something happens here; pushes share one
        self.over = False
        plain = call.mask is None
        self.parts = Updates(around.collector, job.spec, self) if plain else Masking(around, self)
        self.asking = Asking(around.schedule, around.estimates, self)

    def open(self) -> None:
        """Ask for the round's nodes."""
        failpoint("exchange_opened")
        self.asking.open()

    async def run(self) -> Close | Abandon:
        """Wait until the exchange closes or must be abandoned."""
        told = ""
        while True:
            now = self._around.clock.monotonic()
            self._hold_time()
            verdict = self.round.verdict(now, self._around.presence.away(self.roster), self.asking.waits_for)
            if not isinstance(verdict, Wait):
                if isinstance(verdict, Abandon) or await self.parts.make(verdict.included, reference_of(self.held)):
                    return verdict
                continue
            if self.asking.queued:
                verdict = replace(verdict, sentence=self.asking.words, stalled=False)
            pause = verdict.until - now
            if verdict.sentence != told:
                quiet = self.opened_at + _QUIET_S - now
                if quiet <= 0:
                    self._on_wait(verdict)
                    told = verdict.sentence
                else:
                    pause = min(pause, quiet)
            self.changed.clear()
            try:
                async with asyncio.timeout(max(pause, 0.001)):
                    await self.changed.wait()
            except TimeoutError:
                continue

    def find(self, node: NodeId, digest: str) -> tuple[Path, NodeId] | None:
        """Return the file of that digest and whom it was sent to: ``node`` if it was, else another."""
        files = {held.digest: file for held in self.held if (file := held.file(digest)) is not None}
        sent = [i.node for i in self.call.instructions if i.content in files]
        return (next(iter(files.values())), node if node in sent else sent[0]) if sent else None

    def node_ready(self, node: NodeId) -> None:
        """Offer the node what it has not answered; it may have forgotten or kept it."""
        self.asking.node_ready(node)
        self.parts.node_ready(node)
        self.changed.set()

    def node_gone(self, node: NodeId) -> None:
        """Take the node's open tasks back; they are offered again when it returns."""
        for slot in self._slots_of(node):
            self.round.apply(slot, SlotEvent.WITHDRAW)
        self.asking.node_gone(node)
        self.parts.node_gone(node)
        self.changed.set()

    def node_denied(self, node: NodeId, words: str) -> None:
        """The node will not run the job (any longer)."""
        for slot in self._slots_of(node):
            self.ended(slot, SlotEvent.DENY, "denied", words)

    def status(self, slot: int, status: pb.TaskStatus) -> Slot | None:
        """Take a node's word on its task; return the slot if this was news that ends or restarts it."""
        if self.round.slots[slot].state not in OPEN or self.over:
            return None
        self.asking.enforced(slot, status.enforcement)
        match status.state:
            case _State.ACCEPTED | _State.RUNNING:
                self.round.apply(slot, SlotEvent.ACCEPT)
                return None
            case _State.READY:
                self._done(slot)
                return None
            case _State.FAILED:
                return self._failed(slot, status.reason or "node_error", status.message)
            case _State.DENIED:
                return self._denied(slot, status)
            case _:
                return None

    def promised(self, slot: int) -> None:
        """A node's work is over, and its part of a masked sum is promised."""
        self._done(slot)
        self.ended(slot, SlotEvent.TAKE, "", "")

    def anew(self, slots: Sequence[int]) -> None:
        """Offer slots again whose promise has come to nothing."""
        for slot in slots:
            if self.round.slots[slot].state is SlotState.INCLUDED:
                self.round.apply(slot, SlotEvent.REOPEN)
                self.asking.retry(slot)

    def end(self, reason: str) -> None:
        """Take every task back that is still open and let the objects go; idempotent."""
        if self.over:
            return
        self.over = True
        self.asking.close(reason)
        for slot, state in list(self.round.slots.items()):
            if state.state in OPEN:
                self.round.apply(slot, SlotEvent.CLOSE, "late", reason)
                if state.state is not SlotState.PENDING:
                    self._around.link.send(state.node, offers.task_cancel(self._task(slot), reason))
        for held in self.held:
            held.close()
        self.changed.set()

    def overdue(self) -> None:
        """Count what is still open after the deadline as late."""
        self._hold_time()
        if self._around.clock.monotonic() < self.round.terms.deadline:
            return
        for slot, state in list(self.round.slots.items()):
            if state.state in OPEN - {SlotState.PENDING}:  # it has been offered
                self._around.link.send(state.node, offers.task_cancel(self._task(slot), "deadline"))
            if state.state in OPEN:
                self.ended(slot, SlotEvent.CLOSE, "late", "no reply before the deadline")

    def drop(self, slot: int, fault: Fault) -> None:
        """Take an update out again: it does not agree with the others."""
        self.round.apply(slot, SlotEvent.DROP, fault.code, fault.message)

    def _terms(self) -> Terms:
        spec, now = self.job.spec, self._around.clock.monotonic()
        return Terms(
            minimum=max(spec.cohort.minimum, self.call.least),
            target=spec.cohort.target if self.call.kind is ExchangeKind.EXCHANGE else 0,
            deadline=now + self.time_s(),
            wait_s=spec.wait_s,
            grace_s=self._around.settings.grace_s,
            errors_are_replies=self.call.by_hand,
        )

    def _slots_of(self, node: NodeId) -> list[int]:
        return [i.slot for i in self.call.instructions if i.node == node and self.round.slots[i.slot].state in OPEN]

    def _task(self, slot: int) -> TaskId:
        return task_id(self.job.id, self.seq, slot)

    def begun(self, cutoff_s: float | None) -> None:
        """The round has its nodes: its time begins."""
        now = self._around.clock.monotonic()
        cutoff = math.inf if cutoff_s is None else now + cutoff_s
        self.round.terms = replace(self.round.terms, deadline=now + self.time_s(), cutoff=cutoff)
        self.changed.set()

    def _hold_time(self) -> None:
        """A round that waits for its nodes in the queue loses no time by it."""
        if self.asking.queued:
            deadline = self._around.clock.monotonic() + self.time_s()
            self.round.terms = replace(self.round.terms, deadline=deadline)

    def time_s(self) -> float:
        """Return the seconds that the round may take from the moment it has its nodes."""
        return min(self.job.spec.deadline_s, self.call.timeout_s)

    def left_s(self) -> float:
        now, terms = self._around.clock.monotonic(), self.round.terms
        left = terms.deadline - now
        return left if left > 1.0 else max(terms.deadline + terms.wait_s - now, 1.0)

    def offer(self, slot: int, lease: Lease) -> None:
        instruction = self.call.instructions[slot]
        entry = self.roster[instruction.node]
        left_s = (lease.until_ms - self._around.schedule.now_ms) / 1000
        event = offers.task_offer(
            self.job, self.seq, instruction, entry, fold=self.call.fold, lease=lease, lease_s=left_s
        )
        offers.rest(event, self.held)
        if (terms := self.parts.terms) is not None:
            event.task.mask.CopyFrom(terms)
        if self._around.link.send(instruction.node, event):
            self.round.apply(slot, SlotEvent.OFFER)
            failpoint("task_offered")

    def _done(self, slot: int) -> None:
        """The node's work is over, its update on its way: the lease has served."""
        lease = self.asking.lease(slot)
        if lease is not None and self.round.slots[slot].state is not SlotState.READY:
            took_s = (self._around.schedule.now_ms - lease.start_ms) / 1000
            self._around.estimates.observe(self.job, self.call.message_type, lease.node, took_s)
            self._around.estimates.outcome(lease.node, completed=True)
        self.round.apply(slot, SlotEvent.READY)
        self.asking.over(slot, "done")

    def lost(self, slot: int, reason: str) -> None:
        """A lease ended before its task did."""
        node = self.round.slots[slot].node
        if node not in self.ready:
            return  # it asks again when it is back
        self._around.link.send(node, offers.task_cancel(self._task(slot), reason))
        if reason == "lease_expired":
            self._failed(slot, reason, "the task took longer than its lease")
        else:
            self.round.apply(slot, SlotEvent.WITHDRAW)
            self.asking.retry(slot)

    def _denied(self, slot: int, status: pb.TaskStatus) -> Slot | None:
        words = "; ".join(f"{d.code}: {d.message}" for d in status.denials) or status.message
        if status.reason in _NOT_YET:
            self.round.apply(slot, SlotEvent.WITHDRAW)
            self.asking.over(slot, status.reason)
            asyncio.get_running_loop().call_later(_BUSY_S, self.node_ready, self.round.slots[slot].node)
            return None
        return self.ended(slot, SlotEvent.DENY, "denied", words)

    def _failed(self, slot: int, reason: str, message: str) -> Slot:
        self._around.estimates.outcome(self.round.slots[slot].node, completed=False)
        after = self.round.fail(slot, reason[:80], message[:1000])
        if after.state is SlotState.PENDING:
            self.asking.retry(slot)
        else:
            self.asking.over(slot, "failed")
        self.changed.set()
        return after

    def ended(self, slot: int, event: SlotEvent, reason: str, message: str) -> Slot | None:
        """Move a slot to its end, if it can be; its lease goes back."""
        try:
            after = self.round.apply(slot, event, reason, message[:1000])
        except IllegalTransition:
            return None
        self.asking.over(slot, event.value)
        self.changed.set()
        return after
