"""What an exchange asks of the scheduler: its round at once, who comes back alone, spares only when somebody falls out."""

import asyncio
from types import SimpleNamespace

import pytest

from coordinator.domain.exchanges import ExchangeKind
from coordinator.domain.quotas import Amount, Grant
from coordinator.rounds.slots import SlotEvent
from coordinator.scheduling.records import Node, State
from coordinator.services.estimates import Estimates
from tests.asking_world import World


@pytest.fixture
async def world():
    made = await World().start()
    yield made
    await made.schedule.close()


async def test_a_round_is_one_ask_for_every_node_that_is_there(world):
    one = world.exchange("abc", ready="ab")
    assert one.offered == [(0, "job_1/1"), (1, "job_1/1")]
    assert one.starts == 1
    assert [lease.until_ms - lease.start_ms for lease in world.schedule.leases()] == [102_400] * 2  # 100 s, coarsely


async def test_a_node_that_comes_later_joins_by_an_ask_of_its_own(world):
    one = world.exchange("abc", ready="ab")
    one.ready.add("c")
    one.asking.node_ready("c")
    assert one.go().offered[2:] == [(2, "job_1/1/2")]


async def test_below_its_minimum_a_round_takes_no_node_and_then_all_at_once(world):
    one = world.exchange("abc", minimum=3, ready="ab")
    assert (one.offered, one.asking.queued, world.schedule.leases()) == ([], False, [])
    one.ready.add("c")
    one.asking.node_ready("c")
    assert sorted(one.go().offered) == [(0, "job_1/1"), (1, "job_1/1"), (2, "job_1/1")]


async def test_a_round_waits_for_all_its_nodes_and_its_time_does_not_run(world):
    first = world.exchange("a", job="job_1")
    second = world.exchange("abc", job="job_2")
    assert second.offered == []
    assert second.asking.queued
    assert "3 of its nodes" in second.asking.words
    first.over(0)
    assert len(second.offered) == 3
    assert not second.asking.queued


async def test_with_a_target_it_starts_with_the_free_and_asks_a_spare_only_when_one_falls_out(world):
    busy = world.exchange("c", job="job_2")
    one = world.exchange("abc", target=2)
    assert one.offered == [(0, "job_1/1"), (1, "job_1/1")]
    assert one.asking.spare(2)
    busy.over(0)
    one.go()
    assert len(one.offered) == 2  # c is free, but nobody needs it
    one.round.apply(0, SlotEvent.FAIL, "app_raised")
    one.asking.over(0, "failed")
    assert one.go().offered[2:] == [(2, "job_1/1/2")]
    assert not one.asking.spare(2)


async def test_an_accident_is_tried_again_under_a_lease_of_its_own(world):
    one = world.exchange("ab")
    one.round.fail(1, "app_crashed", "")
    one.asking.retry(1)
    assert one.go().offered[2:] == [(1, "job_1/1/1")]
    assert sorted((lease.ask, lease.node) for lease in world.schedule.leases()) == [
        ("job_1/1", "a"),
        ("job_1/1/1", "b"),
    ]


async def test_a_node_that_loses_its_connection_goes_on_with_its_lease(world):
    one = world.exchange("ab")
    one.ready.discard("b")
    one.round.apply(1, SlotEvent.WITHDRAW)
    world.schedule.leave("b")
    one.asking.node_gone("b")
    world.clock.advance(10)
    world.schedule.come(Node("b", "north", 64_000, 1 << 20, 1))
    one.ready.add("b")
    one.asking.node_ready("b")
    assert one.go().offered[2:] == [(1, "job_1/1")]
    assert len(world.schedule.leases()) == 2


async def test_a_lease_that_runs_out_is_told_and_everything_goes_back_at_the_close(world):
    one = world.exchange("ab")
    world.clock.advance(103)
    one.go()
    assert one.lost_slots == [(0, "lease_expired"), (1, "lease_expired")]
    two = world.exchange("ab", job="job_2")
    two.asking.close("closed")
    assert world.schedule.leases() == []
    assert not world.schedule.waits("job_2/1")


async def test_pushed_messages_go_each_by_itself(world):
    busy = world.exchange("b", job="job_2")
    one = world.exchange("abc", kind=ExchangeKind.PUSH)
    assert one.offered == [(0, "job_1/1/0"), (2, "job_1/1/2")]
    assert one.asking.queued
    busy.over(0)
    assert one.go().offered[2:] == [(1, "job_1/1/1")]


async def test_two_messages_to_one_node_follow_one_another(world):
    one = world.exchange("aab")
    assert sorted(one.offered) == [(0, "job_1/1"), (2, "job_1/1")]
    for slot, _ in list(one.offered):
        one.over(slot)
    assert sorted(slot for slot, _ in one.offered) == [0, 1, 2]


async def test_where_a_limit_lets_one_task_run_the_others_follow_one_by_one():
    grant = Grant("north", "north", limit=Amount(cpu_milli=1000))
    world = await World().start(grants=[grant])
    one = world.exchange("abc")
    assert len(one.offered) == 1
    one.over(one.offered[0][0])
    assert len(one.offered) == 2
    one.over(one.offered[1][0])
    assert sorted(slot for slot, _ in one.offered) == [0, 1, 2]
    await world.schedule.close()


def at_most(milli, site="south"):
    return Grant(site, "north", limit=Amount(cpu_milli=milli))


@pytest.fixture
async def two_sites():
    """Two nodes of north and one of south, on which north may have one task."""
    made = await World().start("ab", grants=[at_most(1000)])
    made.schedule.come(Node("c", "south", 64_000, 1 << 20, 1))
    yield made
    await made.schedule.close()


@pytest.mark.parametrize("target", [0, 3])
async def test_whom_a_lowered_limit_keeps_out_for_good_is_denied_and_the_round_goes_on(two_sites, target):
    two_sites.schedule.granted("south", "north", at_most(500))
    one = two_sites.exchange("abc", target=target, minimum=2)
    assert sorted(slot for slot, _ in one.offered) == [0, 1]
    assert list(one.denied) == [2]
    reason, words = one.denied[2]
    assert reason == "over_limit"
    assert "south limits north to 0.5 CPUs, and one task takes 1 CPU" in words
    assert "hansa quota set north --site south" in words
    one.over(0).over(1)
    assert all(one.round.is_final(slot) for slot in one.round.slots)


async def test_a_limit_lowered_while_a_slot_waits_ends_it_and_one_raised_lets_a_round_start(two_sites):
    busy = two_sites.exchange("c", job="job_2")
    one = two_sites.exchange("abc", minimum=2)
    assert sorted(slot for slot, _ in one.offered) in ([], [0, 1])
    two_sites.schedule.granted("south", "north", at_most(500))
    await asyncio.sleep(0)
    one.go()
    assert sorted(slot for slot, _ in one.offered) == [0, 1]
    assert list(one.denied) == [2]
    busy.over(0)
    other = two_sites.exchange("c", job="job_3")
    assert (other.offered, other.denied) == ([], {})
    assert "until limits admit 1" in other.asking.words
    two_sites.schedule.granted("south", "north", at_most(1000))
    await asyncio.sleep(0)
    assert [slot for slot, _ in other.go().offered] == [0]


async def test_what_a_slot_waits_for_is_said_as_it_is(world):
    world.exchange("a", job="job_2")
    one = world.exchange("bac", target=1, ready="ba")
    assert one.asking.waits_for(2) == "getting the app ready"
    assert one.asking.waits_for(1) == "not needed yet"
    one.round.apply(0, SlotEvent.FAIL, "app_raised")
    one.asking.over(0, "failed")
    assert one.asking.waits_for(1) == "queued: hansa queue why job_1/1/1"


async def test_after_a_restart_it_goes_on_under_the_same_leases():
    before = await World().start()
    before.exchange("abc", ready="ab")
    state = before.schedule.state()
    after = await World(State(state.policy, (), leases=state.leases, use=state.use)).start()
    one = after.exchange("abc", ready="a")
    assert one.offered == [(0, "job_1/1")]
    one.ready |= {"b", "c"}
    one.asking.node_ready("b")
    one.asking.node_ready("c")
    assert one.go().offered[1:] == [(1, "job_1/1"), (2, "job_1/1/2")]
    assert after.schedule.state().use.keys() == state.use.keys()
    for one_world in (before, after):
        await one_world.schedule.close()


def test_estimates_are_capped_by_what_the_job_declares_and_come_back_from_the_store():
    made = Estimates()
    job = SimpleNamespace(
        app="a" * 64, round=2, started_at=0.0,
        spec=SimpleNamespace(deadline_s=5.0, rounds=10, cohort=None),
    )  # fmt: skip
    assert not made.known(job, "train")
    for _ in range(30):
        made.observe(job, "train", "fast", 1.0)
        made.observe(job, "train", "slow", 1000.0)
    assert made.round_s(job, "train", ["fast", "slow"], 1) == pytest.approx(1.0, rel=0.3)
    assert made.round_s(job, "train", ["fast", "slow"], 2) == 5.0
    assert made.left_s(job, ["fast"], 1e9) == pytest.approx(8 * made.round_s(job, "train", ["fast"], 1))
    again = Estimates()
    again.restore(made.record())
    assert again.record() == made.record()
