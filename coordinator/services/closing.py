"""From a closed exchange to the row of the journal and the objects that the app is given."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.failpoints import failpoint
from common.ids import NodeId, new_id
from coordinator.aggregation.fold import mean_metrics
from coordinator.aggregation.verify import Metric, Sound, agree
from coordinator.domain.exchanges import HIDDEN, Exchange, Included, Reply
from coordinator.domain.jobs import Job
from coordinator.rounds.exchange import Close, Slot
from coordinator.rounds.slots import SlotState
from coordinator.services import offers
from coordinator.services.around import Around
from coordinator.services.calls import open_row
from coordinator.services.collect import Kept
from coordinator.services.exchange import LiveExchange
from coordinator.services.masked_fold import MaskedSum, OpenedSum, SentOut
from coordinator.services.objects import reference_of
from coordinator.services.updates import Taken

# Flower's codes of a reply that is an error (flwr/common/constant.py); 2 = the app raised.
_FLOWER = {"missing_imports": 1, "component_not_found": 1, "app_raised": 2, "late": 4, "denied": 6, "node_error": 5}
_CRASHED = 8


@dataclass(frozen=True)
class Closed:
    """An exchange that is over: its row, and its replies' objects, open, in the order of the replies that have one."""

    row: Exchange
    kept: tuple[Kept, ...]
    metrics: Mapping[str, Metric] = field(default_factory=dict)  # the mean, where it was folded


async def close(around: Around, job: Job, live: LiveExchange, verdict: Close, opened_at: float) -> Closed:
    """Fold or keep the replies.  Nothing is written to the journal here."""
    row = open_row(job.id, live.seq, live.call, opened_at)
    if live.call.fold:
        closed = await _fold(around, job, live, verdict, row)
    else:
        _drop_odd_ones(live, verdict)
        closed = await single_replies(around, job, live, row, [i.slot for i in live.call.instructions])
    failpoint("exchange_folded_before_commit")
    dropped = tuple(_dropped(live, s) for s in live.round.slots.values() if s.state is not SlotState.INCLUDED)
    row = replace(closed.row, dropped=dropped, closed_at=around.clock.now())
    return Closed(row, closed.kept, closed.metrics)


async def single_replies(around: Around, job: Job, live: LiveExchange, row: Exchange, slots: Sequence[int]) -> Closed:
    """Keep the replies of ``slots`` one by one; what did not come is an error reply."""
    replies: list[Reply] = []
    kept: list[Kept] = []
    try:
        for slot in slots:
            state = live.round.slots[slot]
            taken = live.parts.taken.get(slot) if state.state is SlotState.INCLUDED else None
            if taken is None:
                replies.append(_error(live.seq, slot, state.node, state.reason or "late", state.message))
                continue
            mine = await asyncio.to_thread(_move, taken.update.path, around.blobs.work_dir())
            kept.append(await around.collector.keep_file(job.tenant, mine, taken.update.digest))
            replies.append(Reply(slot, state.node, kept[-1].digest, kept[-1].size, push_seq=live.seq))
    except BaseException:
        for done in kept:
            os.close(done.fd)
        raise
    return Closed(replace(row, replies=tuple(replies)), tuple(kept))


def end_exchange(around: Around, job: Job, live: LiveExchange) -> None:
    """Tell the nodes of a journalled exchange that they need not keep their updates any longer."""
    live.end("closed")
    event = offers.exchange_closed(job.id, live.seq)
    for node in {i.node for i in live.call.instructions}:
        around.link.send(node, event)


async def release(around: Around, live: LiveExchange) -> None:
    """Give the spooled files of an exchange back."""
    paths = [taken.update.path for taken in live.parts.taken.values()]
    if paths:
        await asyncio.to_thread(_release_all, around, paths)


async def _fold(around: Around, job: Job, live: LiveExchange, verdict: Close, row: Exchange) -> Closed:
    if live.parts.opened is not None:
        return await _fold_masked(around, job, live, live.parts.opened, row)
    order = in_roster_order(live, verdict.included)
    sounds = [_sound(live.parts.taken[slot]) for slot in order]
    winners, faults = agree(sounds, reference_of(live.held))
    for index, fault in faults:
        live.drop(order[index], fault)
    chosen = [order[index] for index in winners]
    updates = [(live.parts.taken[slot].update, _sound(live.parts.taken[slot])) for slot in chosen]
    kept = await around.collector.fold(job.tenant, [(update.path, sound) for update, sound in updates])
    included = tuple(Included(update.node, update.digest, sound.weight) for update, sound in updates)
    reply = Reply(0, None, kept.digest, kept.size)
    metrics = mean_metrics([sound for _, sound in updates])
    return Closed(replace(row, replies=(reply,), included=included), (kept,), metrics)


async def _fold_masked(around: Around, job: Job, live: LiveExchange, opened: OpenedSum, row: Exchange) -> Closed:
    held = next((h for h in live.held if h.digest == live.call.instructions[0].content), None)
    sent = SentOut(*held.tensors()) if held is not None else None
    task = MaskedSum([u.path for u in opened.updates], opened.layout, opened.encoding, opened.opening, sent)
    kept, lanes = await around.collector.fold_masked(job.tenant, task, sum(u.size for u in opened.updates))
    included = tuple(Included(update.node, update.digest, HIDDEN) for update in opened.updates)
    reply = Reply(0, None, kept.digest, kept.size)
    return Closed(replace(row, replies=(reply,), included=included), (kept,), lanes.metrics)


def in_roster_order(live: LiveExchange, slots: Sequence[int]) -> list[int]:
    """Return ``slots`` in the one order in which they are summed."""
    return sorted(slots, key=lambda slot: (live.roster[live.round.slots[slot].node].partition_id, slot))


def _drop_odd_ones(live: LiveExchange, verdict: Close) -> None:
    """Where Flower's own code reads single replies, one with other records or keys would end the whole run."""
    if not live.call.alike:
        return
    order = in_roster_order(live, verdict.included)
    loose = [_loosened(_sound(live.parts.taken[slot])) for slot in order]
    for index, fault in agree(loose)[1]:
        live.drop(order[index], fault)


def _loosened(sound: Sound) -> Sound:
    """Return ``sound`` with names only: bagging strategies take arrays of any length."""
    names = tuple((record, key, "", (), 0) for record, key, *_ in sound.shape.tensors)
    return replace(sound, shape=replace(sound.shape, tensors=names))


def _sound(taken: Taken) -> Sound:
    if taken.sound is None:
        raise TypeError("an update that was not judged cannot be folded")
    return taken.sound


def _error(seq: int, slot: int, node: NodeId, reason: str, message: str) -> Reply:
    text = f"{reason}: {message}" if message else reason
    return Reply(slot, node, None, error_code=_FLOWER.get(reason, _CRASHED), error=text[:1000], push_seq=seq)


def _dropped(live: LiveExchange, slot: Slot) -> tuple[NodeId, str, str]:
    if live.asking.spare(slot.slot):
        return slot.node, "not_scheduled", "the round started without it: it was busy, or more than were needed"
    return slot.node, slot.reason or str(slot.state), slot.message or _open_words(slot.state)


def _open_words(state: SlotState) -> str:
    return "" if state is not SlotState.LATE else "the exchange closed without it"


def _move(path: Path, folder: Path) -> Path:
    """Move a spooled file to where blobs are made, so that the spool cannot use it again."""
    target = folder / new_id("reply")
    try:
        path.rename(target)
    except OSError:  # another file system
        shutil.copyfile(path, target)
    return target


def _release_all(around: Around, paths: Sequence[Path]) -> None:
    for path in paths:
        around.release(path)
