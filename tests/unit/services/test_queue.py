"""One look at the queue is for all who ask, and not more often than it should be."""

import asyncio
from dataclasses import replace

import pytest

from coordinator.scheduling.policies import named
from coordinator.scheduling.records import State
from coordinator.services import queue
from coordinator.services.queue import STALE_MS, QueueView


class Still:
    """A schedule that changes when the test says so."""

    def __init__(self) -> None:
        self.now_ms, self.at = 0, State(named("fcfs"), ())

    def state(self) -> State:
        return replace(self.at)


def watched(monkeypatch) -> tuple[Still, list[State]]:
    looks, real = [], queue.foresee
    monkeypatch.setattr(queue, "foresee", lambda state, *more: looks.append(state) or real(state, *more))
    return Still(), looks


async def test_those_who_ask_together_share_one_look_and_so_do_those_who_ask_later_if_nothing_changed(monkeypatch):
    schedule, looks = watched(monkeypatch)
    view = QueueView(schedule, None, gap_s=0.0)
    found = await asyncio.gather(*(view.look() for _ in range(20)))
    assert all(one is found[0] for one in (*found, await view.look()))
    assert len(looks) == 1
    schedule.now_ms = STALE_MS
    await view.look()
    assert len(looks) == 2


async def test_a_change_is_seen_by_whoever_asks_after_it(monkeypatch):
    schedule, looks = watched(monkeypatch)
    view = QueueView(schedule, None, gap_s=0.0)
    first = await view.look()
    schedule.at = replace(schedule.at, origin_ms=1)
    found = await asyncio.gather(*(view.look() for _ in range(20)))
    assert found[0] is not first
    assert [state.origin_ms for state in looks] == [0, 1]


async def test_a_change_is_not_looked_at_before_the_gap_is_over(monkeypatch):
    schedule, looks = watched(monkeypatch)
    view = QueueView(schedule, None, gap_s=3600.0)
    await view.look()
    schedule.at = replace(schedule.at, origin_ms=1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(view.look(), 0.01)
    assert len(looks) == 1
