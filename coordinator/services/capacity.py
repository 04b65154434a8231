"""What the real queue was seen to do and what there is to serve it, for capacity planning.

The scheduler's journal is read in small pieces behind everybody else's back: the newest rows only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from common.errors import BadInput
from common.ids import NodeId
from coordinator.capacity.observed import Observation, Round, observe
from coordinator.capacity.outlook import Target, outlook
from coordinator.capacity.sizing import Demand
from coordinator.ports.store import Store, Tx
from coordinator.scheduling.events import Asked, Ended, Entry, Expired, Revoked, Started, Withdrawn
from coordinator.scheduling.records import WHOLE, Ask

_PAGE = 1000
_NEWEST = 20_000  # rows of the journal


@dataclass(frozen=True)
class Question:
    """What is asked; None = as measured, or as there is."""

    target: Target
    window_s: float
    accelerators: bool  # rounds that need GPUs, or those that need none
    gpus: int | None = None
    gang: int | None = None
    arrivals: float | None = None  # per second
    service_s: float | None = None
    ca2: float | None = None
    cs2: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Seen:
    """What was measured, and what there is."""

    observation: Observation
    places: int  # GPUs of the nodes that are there, or the tasks they take at once


async def seen(store: Store, online: Collection[NodeId], now: float, question: Question) -> Seen:
    """Return what the queue did in the window before ``now`` (UTC seconds), and the pool as it is."""
    rounds = rounds_in(await _newest(store), round((now - question.window_s) * 1000))
    nodes = await store.read(lambda tx: [n for n in tx.nodes.list() if n.id in online and n.report is not None])
    reports = [node.report for node in nodes if node.report is not None]
    places = sum(len(report.devices) if question.accelerators else report.slots for report in reports)
    return Seen(observe(rounds, question.accelerators), places)


async def _newest(store: Store) -> list[Entry]:
    def after(seq: int) -> Callable[[Tx], Sequence[Entry]]:
        return lambda tx: tx.schedule.entries(seq, _PAGE)

    last = await store.read(lambda tx: tx.schedule.last())
    seq = max(0, last.seq - _NEWEST) if last else 0
    entries: list[Entry] = []
    while page := await store.read(after(seq)):
        entries.extend(page)
        seq = page[-1].seq
    return entries


def rounds_in(entries: Iterable[Entry], since_ms: int) -> list[Round]:
    """Return the rounds that were asked for since then, from the journal's rows in their order."""
    asked: dict[str, tuple[int, Ask]] = {}
    granted: dict[str, tuple[int, int]] = {}  # ask -> (when, leases that still run)
    ended: dict[str, int] = {}
    for entry in entries:
        match entry.event:
            case Asked(ask):
                asked.setdefault(ask.id, (entry.at_ms, ask))
            case Started(ask_id, leases):
                granted[ask_id] = (entry.at_ms, len(leases))
            case Ended(ask_id) | Expired(ask_id) | Revoked(ask_id) if ask_id in granted:
                at_ms, running = granted[ask_id]
                granted[ask_id] = (at_ms, running - 1)
                if running == 1:
                    ended[ask_id] = entry.at_ms
            case Withdrawn(ask_id) if ask_id not in granted:
                asked.pop(ask_id, None)
            case _:
                pass
    return [
        Round(at_ms, granted[id_][0] if id_ in granted else None, ended.get(id_), _places(ask), bool(ask.need.milli))
        for id_, (at_ms, ask) in asked.items()
        if at_ms >= since_ms
    ]


def _places(ask: Ask) -> int:
    """Return the places a round holds at once: GPUs, a part counting as a whole, or tasks where it needs none."""
    return ask.m * max(1, -(-ask.need.milli // WHOLE))


def answer(question: Question, found: Seen | None) -> dict[str, object]:
    """Return the outlook; what the question leaves open is taken from ``found``.

    It plays a queue of many thousand customers: a second or two, so not in an event loop.

    Raises:
        BadInput: neither the question nor the measurement says how many rounds come, or there is no pool.
    """
    measured = found.observation.demand if found else None
    if measured is None and (question.arrivals is None or question.service_s is None):
        rounds = found.observation.rounds if found else 0
        raise BadInput(
            f"only {rounds} rounds were seen in {question.window_s / 3600:g} h, too few to tell a rate",
            next_step="Say what to expect: --arrivals 12/h --service 30m, or look further back: --window 30d.",
            code="nothing_measured",
        )
    gpus = question.gpus if question.gpus is not None else (found.places if found else 0)
    if gpus < 1:
        raise BadInput("no node with a GPU is there", next_step="Say how many to reckon with: --gpus N.")
    demand = _demand(question, measured)
    record = outlook(demand, gpus, question.target, question.seed)
    observed = None
    if found is not None:
        seen = found.observation
        observed = {
            "window_s": question.window_s,
            "rounds": seen.rounds,
            "gangs": {str(gang): rounds for gang, rounds in seen.gangs.items()},
            "p_wait": seen.p_wait,
            "mean_wait_s": seen.mean_wait_s,
            "places": found.places,
        }
    return record | {"accelerators": question.accelerators, "observed": observed}


def _demand(question: Question, measured: Demand | None) -> Demand:
    base = measured or Demand(1.0, 1.0)

    return Demand(
        arrivals=base.arrivals if question.arrivals is None else question.arrivals,
        service_s=base.service_s if question.service_s is None else question.service_s,
        gang=base.gang if question.gang is None else question.gang,
        ca2=base.ca2 if question.ca2 is None else question.ca2,
        cs2=base.cs2 if question.cs2 is None else question.cs2,
    )
