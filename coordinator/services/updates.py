"""The updates of one exchange: each verified as it comes, and how many of them would be folded together."""

from __future__ import annotations

from dataclasses import dataclass

from common.failpoints import failpoint
from common.jobspec import JobSpec
from coordinator.aggregation.verify import Fault, Shape, Sound
from coordinator.ports.link import SpooledUpdate
from coordinator.rounds.exchange import ExchangeRound
from coordinator.services.calls import Call
from coordinator.services.collect import Collector, Want


@dataclass(frozen=True)
class Taken:
    """An update that is here and sound."""

    update: SpooledUpdate
    sound: Sound | None  # None: not to be folded


class Updates:
    """What has come in.

    Args:
        collector: Looks into spooled files.
        spec: What the job declared.
        call: What was asked.
        round_: Told how many updates agree.
    """

    def __init__(self, collector: Collector, spec: JobSpec, call: Call, round_: ExchangeRound) -> None:
        self._collector, self._call, self._round = collector, call, round_
        kind = call.message_type
        self._want = Want(
            judged=call.alike, arrays=kind == "train", finite=kind in {"train", "evaluate"}, max_weight=spec.max_weight
        )
        self.taken: dict[int, Taken] = {}
        self.under_way: set[int] = set()  # slots whose update is being looked into
        self._shapes: dict[Shape, int] = {}

    async def inspect(self, slot: int, update: SpooledUpdate) -> Sound | Fault | None:
        """Look into a spooled update; None: it is not to be folded."""
        self.under_way.add(slot)
        try:
            found = await self._collector.inspect(update.path, update.size, self._want)
            failpoint("update_verified")
            return found
        finally:
            self.under_way.discard(slot)

    def keep(self, slot: int, update: SpooledUpdate, sound: Sound | None) -> None:
        """Count a sound update; one shape for all is the rule."""
        self.taken[slot] = Taken(update, sound)
        if sound is None or not self._call.fold:
            return
        self._shapes[sound.shape] = self._shapes.get(sound.shape, 0) + 1
        self._round.agreeing = max(self._shapes.values()) if len(self._shapes) > 1 else None

    def has(self, slot: int, update: SpooledUpdate) -> bool:
        """Say whether this very update is here already."""
        known = self.taken.get(slot)
        return known is not None and known.update.digest == update.digest
