"""The masked sum of one exchange: nodes advertise as they finish; when the round has its nodes, their sum is made.

Until survivors are proposed nothing is durable here: an attempt that comes to nothing, or dies with this process, is
made anew with fresh keys, and nodes mask the reply that they still keep.  Before survivors are proposed the attempt is
written down: nodes sign one list a round, ever, so only that very sum can still be opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.errors import BadInput, TooFewNodes
from common.failpoints import failpoint
from common.ids import NodeId, TaskId, task_id
from common.privacy.layout import Layout, parse_layout
from common.privacy.protocol import Advert, Subject, make_roster
from common.privacy.quantize import Encoding
from common.wire import hansa_node_pb2 as pb
from coordinator.aggregation.masked import sound_of
from coordinator.aggregation.verify import Fault, Tensor, agree
from coordinator.ports.link import SpooledUpdate
from coordinator.rounds.masked import MaskedAttempt, Phase, Record
from coordinator.rounds.slots import OPEN, SlotEvent, SlotState
from coordinator.services import maskwords as words
from coordinator.services.around import Around
from coordinator.services.calls import open_row
from coordinator.services.mask_phases import phase_over
from coordinator.services.masked_fold import OpenedSum, check_masked
from coordinator.services.updates import Exchange, Taken

MAX_ATTEMPTS = 5


class Masking:
    """The masks of one exchange.

    Args:
        around: Services.
        exchange: What is summed, and what a former coordinator had written down of this very sum.
    """

    def __init__(self, around: Around, exchange: Exchange) -> None:
        if exchange.call.mask is None:
            raise TypeError("an exchange without a plan for masks")
        self._around, self._exchange, self._plan = around, exchange, exchange.call.mask
        saved = words.record_of(exchange.call.masked) if exchange.call.masked else None
        # No two attempts at an exchange share a number, of this process or of a former one.
        self._number = round(around.clock.now() * 1000)
        self._record: Record | None = None  # of a former coordinator's attempt
        self._layout: Layout | None = None  # of the present attempt
        if saved is not None and saved.record.roster.subject.content == exchange.call.instructions[0].content:
            self._record, self._layout = saved.record, saved.layout
            self._number = saved.record.roster.subject.attempt
        self._adverts: dict[int, tuple[Advert, Layout]] = {}
        self._attempt: MaskedAttempt | None = None
        self._slots = {exchange.round.slots[slot].node: slot for slot in exchange.round.slots}
        self._looking: set[int] = set()
        self.taken: dict[int, Taken] = {}
        self.opened: OpenedSum | None = None
        self._news = asyncio.Event()
        self._again = 0
        if self._record is not None:
            self._only(self._record)

    @property
    def terms(self) -> pb.MaskTerms:
        """Return what a node is asked for with its task."""
        plan = self._plan
        return pb.MaskTerms(
            attempt=self._number, ring=plan.ring, range_bits=plan.range_bits, weight_bits=plan.weight_bits
        )

    # ---- what nodes say ---------------------------------------------------------------------------------------------

    def said(self, slot: int, word: pb.MaskWord) -> None:
        """Take a node's word; one that is out of place is dropped.

        Raises:
            PlatformError: it is malformed or forged.
        """
        node = self._exchange.round.slots[slot].node
        if word.attempt != self._number or self.opened is not None or self._exchange.over:
            return
        kind = word.WhichOneof("word")
        if kind == "advertised":
            self._advertised(slot, word.advertised)
        elif kind == "refusal":
            self._refused(slot, word.refusal)
        elif self._attempt is not None:
            words.hear(self._attempt, node, word)
        self._news.set()

    def wants(self, slot: int) -> bool:
        """Say whether a masked update of this slot would count now."""
        if slot in self._looking or self.opened is not None or self._exchange.over:
            return False
        if self._attempt is None:
            return self._record is not None and self._exchange.round.slots[slot].state in OPEN
        return self._attempt.phase is Phase.MASKING and self._exchange.round.slots[slot].node in self._attempt.waiting()

    async def take(self, slot: int, update: SpooledUpdate) -> tuple[bool, Fault | None]:
        """Take a masked update: (whether it counts, why it was dropped)."""
        node = self._exchange.round.slots[slot].node
        if not self.wants(slot):
            return slot in self.taken and self.taken[slot].update.digest == update.digest, None
        if self._attempt is None:
            return self._retaken(slot, update), None
        attempt, layout = self._attempt, self._layout
        if layout is None:
            return False, None
        self._looking.add(slot)
        try:
            odd = await asyncio.to_thread(check_masked, update.path, update.size, layout, self._plan.ring)
        finally:
            self._looking.discard(slot)
        if attempt is not self._attempt:
            return False, None
        self._news.set()
        if odd:
            attempt.lose(node)
            return False, Fault("malformed", odd)
        self.taken[slot] = Taken(update, None)
        return attempt.sent(node, update.digest), None

    def node_ready(self, node: NodeId) -> None:
        """A node is back: tell it again what it has not answered; its keys may be gone."""
        attempt = self._attempt
        if self.opened is not None:
            return
        if attempt is None:
            if self._record is None and node in self._slots:
                self._exchange.anew([self._slots[node]])
            return
        attempt.back(node)
        if node in attempt.waiting():
            self._tell(attempt, node)
        self._news.set()

    def node_gone(self, node: NodeId) -> None:  # noqa: ARG002 - as plain updates
        """A node went: perhaps nobody is left to wait for."""
        self._news.set()

    # ---- the sum ----------------------------------------------------------------------------------------------------

    async def make(self, included: Sequence[int], reference: tuple[Tensor, ...]) -> bool:
        """Make the sum of those who advertised; False: it came to nothing and the round goes on.

        Args:
            included: Slots that the round closes with.
            reference: Tensors that were sent out.

        Raises:
            TooFewNodes: too few are left, and it cannot be tried again.
        """
        order = sorted(included, key=lambda slot: self._place(slot))
        attempt = self._attempt = self._new_attempt(order, reference)
        try:
            while attempt.phase is not Phase.OPENED:
                self._tell_all(attempt)
                await phase_over(self._around, self._exchange, attempt, self._news)
                phase = attempt.phase
                attempt.advance()
                await self._passed(attempt, phase)
            self.opened = self._opened(attempt)
        except TooFewNodes as error:
            if attempt.phase not in {Phase.SHARING, Phase.MASKING} or self._again >= MAX_ATTEMPTS:
                raise
            self._give_up(attempt, error)
            return False
        for slot in order:
            if self._exchange.round.slots[slot].node not in attempt.survivors.kept:
                self._exchange.drop(slot, Fault("dropped_out", "it fell silent before its masked update was here"))
        return True

    def _new_attempt(self, order: Sequence[int], reference: tuple[Tensor, ...]) -> MaskedAttempt:
        minimum, record = self._exchange.round.minimum, self._record
        if record is not None:
            self._record = None
            return MaskedAttempt(record.roster, minimum, record)
        winners, faults = agree([sound_of(self._adverts[slot][1]) for slot in order], reference)
        for index, fault in faults:
            self._exchange.drop(order[index], fault)
        self._layout = self._adverts[order[winners[0]]][1]
        job, call = self._exchange.job, self._exchange.call
        content = call.instructions[0].content
        subject = Subject(job.id, self._exchange.seq, self._number, content, words.spec_digest(job), self._plan.ring)
        return MaskedAttempt(make_roster(subject, [self._adverts[order[index]][0] for index in winners]), minimum)

    async def _passed(self, attempt: MaskedAttempt, phase: Phase) -> None:
        """Do what the end of a phase calls for, before the next one is told to the nodes."""
        if phase is Phase.SHARING:
            failpoint("mask_shares_delivered")
        elif phase is Phase.MASKING and self._layout is not None:
            failpoint("mask_vectors_in")
            await self._write(words.record_text(attempt.record, self._layout))
            failpoint("mask_survivors_written")
        elif phase is Phase.SIGNING:
            failpoint("mask_survivors_signed")

    async def _write(self, text: str) -> None:
        """Write the attempt down: from now on only this sum can be opened."""
        exchange = self._exchange
        row = open_row(exchange.job.id, exchange.seq, exchange.call, self._around.clock.now())
        row = replace(row, masked=text)
        await self._around.feed.commit(exchange.job.id, lambda tx: tx.jobs.put_exchange(row))

    def _only(self, record: Record) -> None:
        """Close the slots that are not in the sum; all the others must come back with the vectors they had sent."""
        round_ = self._exchange.round
        for slot, state in list(round_.slots.items()):
            if state.node not in record.vectors:
                round_.apply(slot, SlotEvent.CLOSE, "dropped_out", "it fell silent before its masked update was here")
        round_.terms = replace(round_.terms, minimum=len(record.vectors), target=0)

    def _opened(self, attempt: MaskedAttempt) -> OpenedSum:
        roster, kept = attempt.roster, attempt.survivors.kept
        slots = sorted((self._slots[NodeId(node)] for node in kept), key=self._place)
        subject = roster.subject
        encoding = Encoding(subject.ring, len(roster.nodes), roster.range_bits, roster.weight_bits)
        if self._layout is None:
            raise TypeError("a sum without a layout")
        return OpenedSum(tuple(self.taken[slot].update for slot in slots), self._layout, encoding, attempt.opening())

    def _give_up(self, attempt: MaskedAttempt, error: TooFewNodes) -> None:
        self._around.feed.note(
            self._exchange.job.id, "masking_repeated", attempt=self._number, code=error.code, message=error.detail
        )
        members = [self._slots[NodeId(node)] for node in attempt.roster.nodes]
        spooled = [taken.update.path for taken in self.taken.values()]
        asyncio.get_running_loop().run_in_executor(None, _release_all, self._around, spooled)
        self._attempt, self._adverts = None, {}
        self.taken.clear()
        self._number, self._again = self._number + 1, self._again + 1
        self._exchange.anew(members)

    # ---- words ------------------------------------------------------------------------------------------------------

    def _tell_all(self, attempt: MaskedAttempt) -> None:
        for node in sorted(attempt.waiting()):
            self._tell(attempt, NodeId(node))

    def _tell(self, attempt: MaskedAttempt, node: NodeId) -> None:
        self._around.link.send(node, words.order_to(attempt, node, self._task(self._slots[node])))

    def _advertised(self, slot: int, told: pb.MaskWord.Advertised) -> None:
        state = self._exchange.round.slots[slot]
        if self._attempt is not None or state.state not in OPEN | {SlotState.INCLUDED}:
            return
        advert, layout = words.advert_of(told.advert), parse_layout(told.layout)
        entry = self._exchange.roster[state.node]
        if (advert.node, advert.tenant, advert.layout) != (entry.node, entry.tenant, layout.digest):
            raise BadInput(f"node {state.node} advertises for another node or layout")
        self._adverts[slot] = (advert, layout)
        if state.state is not SlotState.INCLUDED:
            self._exchange.promised(slot)
        self._count()

    def _count(self) -> None:
        """Keep the number of nodes whose updates have one layout."""
        layouts = [layout.digest for _, layout in self._adverts.values()]
        most = max((layouts.count(digest) for digest in set(layouts)), default=0)
        self._exchange.round.agreeing = most if len(set(layouts)) > 1 else None

    def _refused(self, slot: int, refusal: pb.Denial) -> None:
        node = self._exchange.round.slots[slot].node
        self._around.feed.note(
            self._exchange.job.id,
            "mask_refused",
            node=self._exchange.roster[node].name,
            code=refusal.code[:80],
            message=refusal.message[:500],
        )
        if self._attempt is not None:
            self._attempt.lose(node)
        else:
            self._exchange.ended(slot, SlotEvent.DENY, "denied", f"{refusal.code[:80]}: {refusal.message[:500]}")

    def _retaken(self, slot: int, update: SpooledUpdate) -> bool:
        """Take a vector again that a former coordinator had: only the very same one is in the sum."""
        node = self._exchange.round.slots[slot].node
        if self._record is None or self._record.vectors.get(node) != update.digest:
            return False
        self.taken[slot] = Taken(update, None)
        self._exchange.promised(slot)
        return True

    def _place(self, slot: int) -> tuple[int, int]:
        return (self._exchange.roster[self._exchange.round.slots[slot].node].partition_id, slot)

    def _task(self, slot: int) -> TaskId:
        return task_id(self._exchange.job.id, self._exchange.seq, slot)


def _release_all(around: Around, paths: Sequence[Path]) -> None:
    for path in paths:
        around.release(path)
