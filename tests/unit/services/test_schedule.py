"""The live scheduler: what it decides is told once, ends by contract, is written down, and survives a killed process."""

import asyncio
import random

import pytest

from common.clock import ManualClock
from common.errors import Corrupted, Unreachable
from coordinator.adapters.sql import make_store
from coordinator.domain.quotas import Amount, Grant
from coordinator.scheduling import events as e
from coordinator.scheduling.planner import Planner
from coordinator.scheduling.policies import named
from coordinator.scheduling.records import Ask, Lease, Need, Node
from coordinator.scheduling.replay import Fold, ask_of, lease_id
from coordinator.services.leasebook import Holder
from coordinator.services.schedule import AWAY_S, Schedule
from coordinator.services.schedule_journal import ScheduleJournal

HOUR = 3_600_000


def node(name, slots=1):
    return Node(name, "north", 64_000, 1 << 20, slots)


def ask(id_, m=1, nodes=("a",), *, tenant="north", submit=0, bound=HOUR):
    return Ask(id_, id_.split("/")[0], tenant, Need(), m, max(m, len(nodes)), 1000, bound, submit, 1000, tuple(nodes))


class Desk:
    """A scheduler over a store, and what its holders were told."""

    def __init__(self, store, clock, policy="fcfs", **journal):
        self.clock, self.started, self.lost = clock, [], []
        self.journal = ScheduleJournal(store, every_s=60, **journal)
        self.schedule = Schedule(clock, named(policy), self.journal)
        self.holder = Holder(
            lambda leases: self.started.append((leases[0].ask, sorted(lease.node for lease in leases))),
            lambda lease, reason: self.lost.append((lease.ask, lease.node, reason)),
        )

    def ask(self, *args, **more):
        self.schedule.ask(ask(*args, **more), self.holder)

    def held(self):
        return sorted((lease.ask, lease.node) for lease in self.schedule.leases())


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


async def busy(desk, rng, numbers):
    """Let jobs of three tenants ask, hold and give back at random."""
    for number in numbers:
        desk.clock.advance(rng.choice([0.0, 0.5, 3.0]))
        match rng.randrange(8):
            case 0 | 1 | 2 | 3:
                nodes = rng.sample("abc", rng.randint(1, 3))
                tenant = rng.choice(["north", "south", "east"])
                desk.ask(f"job_{number}/1", rng.randint(1, len(nodes)), sorted(nodes), tenant=tenant, bound=60_000)
            case 4 | 5 if desk.held():
                desk.schedule.end(*rng.choice(desk.held()), "done")
            case 6:
                desk.schedule.come(node(rng.choice("abc"), rng.randint(1, 2)))
            case _:
                desk.schedule.withdraw(f"job_{rng.randrange(number + 1)}/1")
        desk.schedule.settle()


@pytest.mark.parametrize("seed", range(3))
async def test_a_killed_coordinator_goes_on_with_the_same_leases_and_the_same_use(store, seed):
    rng, clock = random.Random(seed), ManualClock()
    desk = Desk(store, clock, "fair", snapshot_every=70)
    grants = [Grant("north", "south", limit=Amount(cpu_milli=2000), weight=2)]
    await desk.schedule.start([], grants)
    for name in "abc":
        desk.schedule.come(node(name, 2))
    for part in range(3):
        await busy(desk, rng, range(60 * part, 60 * part + 60))
        await desk.journal.flush()
    before = desk.schedule.state()
    assert before.leases
    assert before.use
    clock.at -= 1000  # a wall clock that was set back
    after = Desk(store, clock, "fair")
    await after.schedule.start([lease.job for lease in before.leases], grants)
    now = after.schedule.state()
    assert sorted(now.leases, key=repr) == sorted(before.leases, key=repr)
    assert (now.use, now.origin_ms) == (before.use, before.origin_ms)
    assert (now.nodes, now.asks) == ((), ())
    assert after.schedule.now_ms >= desk.journal._at_ms
    for one in (desk, after):
        await one.schedule.close()


async def test_every_decision_in_the_journal_can_be_made_again(store):
    desk = Desk(store, ManualClock(), "fair")
    await desk.schedule.start([], [])
    for name in "abc":
        desk.schedule.come(node(name))
    await busy(desk, random.Random(7), range(150))
    await desk.schedule.close()
    rows = await store.read(lambda tx: tx.schedule.entries(0, 10_000))
    assert sum(row.turn > 0 for row in rows) > 30
    fold = Fold(None)
    fold.feed(rows)
    assert fold.state().use == desk.schedule.state().use
    assert fold.parted is None
    changed = [
        e.Entry(r.seq, r.at_ms, r.turn, e.Started(r.ask, ())) if isinstance(r.event, e.Started) else r for r in rows
    ]
    forged = Fold(None)
    forged.feed(changed)
    forged.state()
    assert forged.parted == next(r.seq for r in rows if isinstance(r.event, e.Started))
    with pytest.raises(Corrupted, match="no row"):
        Fold(None).feed([row for row in rows if row.seq != 5])


async def test_leases_of_jobs_that_are_over_end_at_the_start(store):
    clock = ManualClock()
    desk = Desk(store, clock)
    await desk.schedule.start([], [])
    desk.schedule.come(node("a", 2))
    desk.ask("job_1/1")
    desk.ask("job_2/1")
    desk.schedule.settle()
    await desk.schedule.close()
    after = Desk(store, clock)
    await after.schedule.start(["job_2"], [])
    assert after.held() == [("job_2/1", "a")]
    adopted = after.schedule.adopt("job_2/1", after.holder)
    assert list(adopted) == ["a"]
    clock.advance(2 * HOUR)
    after.schedule.settle()
    assert after.lost == [("job_2/1", "a", "lease_expired")]
    await after.schedule.close()


async def test_the_journal_is_bounded_and_a_store_that_is_away_is_written_to_later(store, monkeypatch):
    desk = Desk(store, ManualClock(), snapshot_every=50, keep=100)
    await desk.schedule.start([], [])
    desk.schedule.come(node("a"))

    async def rounds(count):
        for number in range(count):
            desk.ask(f"job_1/{number}")
            desk.schedule.settle()
            desk.schedule.end(f"job_1/{number}", "a", "done")
            if number % 10 == 9:
                await desk.journal.flush()

    await rounds(100)
    rows = await store.read(lambda tx: tx.schedule.entries(0, 10_000))
    assert 100 <= len(rows) <= 200
    write, refused = store.write, []

    async def away(_):
        refused.append(1)
        raise Unreachable("gone for a moment")

    monkeypatch.setattr(store, "write", away)
    with pytest.raises(Unreachable):
        await rounds(10)
    monkeypatch.setattr(store, "write", write)
    await desk.journal.flush()
    last = await store.read(lambda tx: tx.schedule.last())
    assert refused
    assert last.seq == desk.journal._seq
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
