"""The scheduler's journal: a killed coordinator goes on where it was, and every decision can be made again."""

import random

import pytest
import sqlalchemy as sa

from common.clock import ManualClock
from common.errors import Corrupted, Unreachable
from coordinator.adapters.sql import make_store
from coordinator.domain.quotas import Amount, Grant
from coordinator.scheduling import events as e
from coordinator.scheduling import usage
from coordinator.scheduling.replay import Fold
from coordinator.services.schedule_journal import fold_before
from tests.unit.services.schedule_kit import HOUR, Desk, busy, node


@pytest.fixture
async def store(tmp_path):
    made = make_store(str(tmp_path / "db"))
    await made.acquire_epoch()
    yield made
    await made.close()


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


async def test_a_journal_of_another_release_is_set_aside_and_scheduling_begins_anew(store, tmp_path, capsys):
    clock = ManualClock()
    desk = Desk(store, clock, "fair")
    await desk.schedule.start([], [])
    desk.schedule.come(node("a"))
    desk.ask("job_1/1")
    desk.schedule.settle()
    await desk.schedule.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes()[:6] == b"SQLite"]
    url = f"sqlite:///{files[0]}"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        count = connection.execute(sa.text("SELECT count(*) FROM schedule_events")).scalar_one()
        new = "json_set(state, '$.policy.unheard_of', 1)"
        connection.execute(sa.text(f"UPDATE schedule_snapshots SET state = {new}"))
    with pytest.raises(Corrupted, match="Policy"):
        await store.read(lambda tx: tx.schedule.snapshot())
    after = Desk(store, clock, "fair")
    await after.schedule.start(["job_1"], [Grant("north", "south", weight=2)])
    assert (after.held(), after.schedule.state().use) == ([], {})
    assert "schedule_begins_anew" in "".join(capsys.readouterr())
    await after.schedule.close()
    with engine.begin() as connection:
        aside = connection.execute(sa.text("SELECT count(*) FROM schedule_events WHERE seq < 0")).scalar_one()
    engine.dispose()
    assert aside == count
    rows = await store.read(lambda tx: tx.schedule.entries(-count))
    assert [row.seq for row in rows] == list(range(count + 1, count + 1 + len(rows)))
    third = Desk(store, clock, "fair")
    await third.schedule.start([], [])
    assert [grant.weight for grant in third.schedule.state().grants] == []
    await third.schedule.close()


async def test_an_outage_of_the_coordinator_is_nobodys_use(store):
    clock = ManualClock()
    desk = Desk(store, clock, "fair")
    await desk.schedule.start([], [])
    desk.schedule.come(node("a"))
    desk.ask("job_1/1", bound=60_000)
    desk.schedule.settle()
    clock.advance(3)
    desk.schedule.come(node("b"))  # the last sign of life
    await desk.journal.flush()
    (lease,) = desk.schedule.leases()
    clock.advance(3600)
    after = Desk(store, clock, "fair")
    await after.schedule.start(["job_1"], [])
    assert after.held() == []
    used = after.schedule.state().use["north", "north"]
    weighed = usage.inflation(after.schedule.policy, after.schedule.state().origin_ms, lease.start_ms)
    assert used == pytest.approx(usage.price(lease.need) * 3000 * weighed)
    after.schedule.settle()
    assert after.schedule.state().use["north", "north"] == used
    await after.journal.flush()
    fold = await store.read(lambda tx: fold_before(tx, after.journal._seq + 1))
    assert fold.state().use["north", "north"] == used
    for one in (desk, after):
        await one.schedule.close()


async def test_a_new_weight_does_not_act_on_the_past(store):
    desk = Desk(store, ManualClock(), "fair")
    await desk.schedule.start([], [Grant("north", "north", weight=1)])
    desk.schedule.come(node("a"))
    desk.ask("job_1/1")
    desk.schedule.settle()
    desk.schedule.end("job_1/1", "a", "done")
    desk.clock.advance(2)
    desk.ask("job_1/2")
    desk.schedule.settle()
    before = desk.schedule.state().use["north", "north"]
    assert before > 0
    desk.schedule.granted("north", "north", Grant("north", "north", weight=3))
    assert desk.schedule.state().use["north", "north"] == 3 * before
    await desk.schedule.close()
    after = Desk(store, desk.clock, "fair")
    await after.schedule.start(["job_1"], [Grant("north", "north", weight=3)])  # a restart weighs nothing again
    assert after.schedule.state().use["north", "north"] == 3 * before
    after.schedule.granted("north", "north", None)
    assert after.schedule.state().use["north", "north"] == pytest.approx(before)
    await after.schedule.close()
