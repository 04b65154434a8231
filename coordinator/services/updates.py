"""The updates of one exchange: each verified as it comes, and how many of them would be folded together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.failpoints import failpoint
from common.ids import NodeId
from common.jobspec import JobSpec
from common.wire import hansa_node_pb2 as pb
from coordinator.aggregation.verify import Fault, Shape, Sound, Tensor
from coordinator.domain.jobs import Job, RosterEntry
from coordinator.ports.link import SpooledUpdate
from coordinator.rounds.exchange import ExchangeRound
from coordinator.rounds.slots import OPEN, SlotEvent
from coordinator.services.calls import Call
from coordinator.services.collect import Collector, Want


@dataclass(frozen=True)
class Taken:
    """An update that is here and sound."""

    update: SpooledUpdate
    sound: Sound | None  # None: not to be folded


class Exchange(Protocol):
    """The exchange that updates are of, as far as they deal with it."""

    job: Job
    seq: int
    call: Call
    round: ExchangeRound
    over: bool
    roster: Mapping[NodeId, RosterEntry]

    def promised(self, slot: int) -> None:
        """The node's work is over and its part of the sum is promised."""
        ...

    def anew(self, slots: Sequence[int]) -> None:
        """Offer these slots again: what was promised cannot be summed."""
        ...

    def drop(self, slot: int, fault: Fault) -> None:
        """Take a slot out."""
        ...

    def ended(self, slot: int, event: SlotEvent, reason: str, message: str) -> object:
        """Move a slot to its end, if it can be."""
        ...


class Updates:
    """What has come in, as it left the nodes.

    Args:
        collector: Looks into spooled files.
        spec: What the job declared.
        exchange: What was asked; told how many updates agree.
    """

    terms = None  # of masks: there are none
    opened = None

    def __init__(self, collector: Collector, spec: JobSpec, exchange: Exchange) -> None:
        self._collector, self._exchange = collector, exchange
        self._call, self._round = exchange.call, exchange.round
        call = self._call
        kind = call.message_type
        self._want = Want(
            judged=call.alike, arrays=kind == "train", finite=kind in {"train", "evaluate"}, max_weight=spec.max_weight
        )
        self.taken: dict[int, Taken] = {}
        self._under_way: set[int] = set()  # slots whose update is being looked into
        self._shapes: dict[Shape, int] = {}

    def wants(self, slot: int) -> bool:
        """Say whether an update for this slot would still count."""
        return self._open(slot) and slot not in self._under_way

    async def take(self, slot: int, update: SpooledUpdate) -> tuple[bool, Fault | None]:
        """Verify a spooled update and count it: (whether it counts, why it was dropped)."""
        if not self.wants(slot):
            known = self.taken.get(slot)
            return known is not None and known.update.digest == update.digest, None
        self._under_way.add(slot)
        try:
            found = await self._collector.inspect(update.path, update.size, self._want)
            failpoint("update_verified")
        finally:
            self._under_way.discard(slot)
        if not self._open(slot):
            return False, None
        if isinstance(found, Fault):
            self._exchange.ended(slot, SlotEvent.DROP, found.code, found.message)
            return False, found
        self._exchange.ended(slot, SlotEvent.TAKE, "", "")
        self._keep(slot, update, found)
        return True, None

    def said(self, slot: int, word: pb.MaskWord) -> None:
        """Nobody was asked for a mask."""

    def node_ready(self, node: NodeId) -> None:
        """What it has not sent, it is offered again."""

    def node_gone(self, node: NodeId) -> None:
        """What it has sent is here."""

    async def make(self, included: Sequence[int], reference: tuple[Tensor, ...]) -> bool:  # noqa: ARG002 - as masks
        """The updates are here: nothing is left to be made."""
        return True

    def _open(self, slot: int) -> bool:
        return not self._exchange.over and self._round.slots[slot].state in OPEN

    def _keep(self, slot: int, update: SpooledUpdate, sound: Sound | None) -> None:
        """Count a sound update; one shape for all is the rule."""
        self.taken[slot] = Taken(update, sound)
        if sound is None or not self._call.fold:
            return
        self._shapes[sound.shape] = self._shapes.get(sound.shape, 0) + 1
        self._round.agreeing = max(self._shapes.values()) if len(self._shapes) > 1 else None
