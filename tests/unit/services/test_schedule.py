"""The live scheduler: what it decides is told once, ends by contract, is written down, and survives a killed process."""

import asyncio

import pytest

from common.clock import ManualClock
from coordinator.adapters.sql import make_store
from coordinator.domain.quotas import Grant
from coordinator.scheduling.planner import Planner
from coordinator.scheduling.policies import named
from coordinator.scheduling.records import Lease, Need
from coordinator.scheduling.replay import ask_of, lease_id
from coordinator.services.leasebook import Holder
from coordinator.services.schedule import AWAY_S
from tests.unit.services.schedule_kit import Desk, ask, node


@pytest.fixture
async def store(tmp_path):
    made = make_store(str(tmp_path / "db"))
    await made.acquire_epoch()
    yield made
    await made.close()


@pytest.fixture
async def desk(store):
    made = Desk(store, ManualClock())
    await made.schedule.start([], [])
    for name in "abc":
        made.schedule.come(node(name))
    yield made
    await made.schedule.close()


async def test_a_round_gets_all_of_its_nodes_or_none(desk):
    desk.ask("job_1/1", 2, ("a", "b"))
    desk.ask("job_2/1", 3, ("a", "b", "c"))
    desk.schedule.settle()
    assert desk.started == [("job_1/1", ["a", "b"])]
    desk.schedule.end("job_1/1", "a", "done")
    desk.schedule.settle()
    assert len(desk.started) == 1
    desk.schedule.end("job_1/1", "b", "done")
    desk.schedule.settle()
    assert desk.started[1:] == [("job_2/1", ["a", "b", "c"])]


async def test_what_happens_in_one_turn_of_the_loop_is_decided_together(desk):
    desk.ask("job_2/1", submit=2)
    desk.ask("job_1/1", submit=1)
    assert desk.started == []
    await asyncio.sleep(0)
    assert desk.started == [("job_1/1", ["a"])]


async def test_a_lease_ends_by_contract_and_the_next_begins(desk):
    desk.ask("job_1/1", bound=10_000)
    desk.ask("job_2/1")
    desk.schedule.settle()
    desk.clock.advance(10)
    desk.schedule.settle()
    assert desk.lost == [("job_1/1", "a", "lease_expired")]
    assert desk.started == [("job_1/1", ["a"]), ("job_2/1", ["a"])]


async def test_whoever_is_told_may_give_back_and_ask_at_once(desk):
    def again(leases):
        desk.started.append(leases[0].ask)
        desk.schedule.end(leases[0].ask, "a", "done")
        if len(desk.started) < 5:
            desk.schedule.ask(ask(f"job_1/{len(desk.started)}"), Holder(again, lambda *_: None))

    desk.schedule.ask(ask("job_1/0"), Holder(again, lambda *_: None))
    for _ in range(10):
        await asyncio.sleep(0)
    assert desk.started == [f"job_1/{i}" for i in range(5)]
    assert desk.held() == []


async def test_one_that_fails_when_it_is_told_does_not_take_the_others_along(desk):
    def broken(_):
        raise RuntimeError("no")

    desk.schedule.ask(ask("job_1/1"), Holder(broken, lambda *_: None))
    desk.ask("job_2/1", 1, ("b",))
    desk.schedule.settle()
    assert desk.started == [("job_2/1", ["b"])]


async def test_a_node_that_comes_back_soon_keeps_its_leases(desk):
    desk.ask("job_1/1")
    desk.ask("job_2/1")
    desk.schedule.settle()
    desk.schedule.leave("a")
    desk.clock.advance(AWAY_S / 2)
    desk.schedule.come(node("a"))
    desk.schedule.settle()
    assert desk.held() == [("job_1/1", "a")]
    assert (desk.lost, len(desk.started)) == ([], 1)


async def test_a_node_that_stays_away_gives_its_leases_up(store):
    desk = Desk(store, ManualClock())
    desk.schedule._away_s = 0.01
    await desk.schedule.start([], [])
    desk.schedule.come(node("a"))
    desk.ask("job_1/1")
    desk.schedule.settle()
    desk.schedule.leave("a")
    async with asyncio.timeout(10):
        while not desk.lost:
            await asyncio.sleep(0.01)
    assert (desk.lost, desk.held()) == ([("job_1/1", "a", "node_away")], [])
    await desk.schedule.close()


async def test_between_two_rounds_a_tenant_keeps_what_it_is_owed(store):
    """Weights 2 and 1, one job each, one slot: of thirty rounds twenty are the heavier one's."""
    desk = Desk(store, ManualClock(), "fair")
    await desk.schedule.start([], [Grant("north", "south", weight=2)])
    desk.schedule.come(node("a"))
    served = []

    def job(name, tenant):
        def go(leases):
            served.append(name)
            desk.clock.advance(1)
            desk.schedule.end(leases[0].ask, "a", "done")
            desk.schedule.settle()
            again = Holder(go, lambda *_: None)
            desk.schedule.ask(ask(f"{name}/{len(served)}", tenant=tenant), again)  # after the other was looked at

        desk.schedule.ask(ask(f"{name}/0", tenant=tenant), Holder(go, lambda *_: None))

    job("job_s", "south")
    job("job_e", "east")
    while len(served) < 30:
        await asyncio.sleep(0)
    assert abs(served[:30].count("job_s") - 20) <= 1
    await desk.schedule.close()


def test_an_ask_like_one_of_before_finds_the_nodes_that_came_meanwhile():
    planner = Planner(named("fcfs"))
    planner.add(ask("job_1/1"))
    planner.withdraw("job_1/1")
    planner.put_node(node("a"))
    planner.add(ask("job_2/1"))
    assert [decision.ask.id for decision in planner.decide(0)] == ["job_2/1"]


def test_a_leases_id_names_its_ask_node_and_start():
    lease = Lease("job_1/3", "job_1", "south", "node_1", "north", Need(), (), 17, 99, 1)
    assert ask_of(lease_id(lease)) == ("job_1/3", "node_1", 17)
    assert ask_of("job_1/3") == ("job_1/3", "", None)
