"""The scheduler's journal comes back as it was written, and stays bounded, on every database."""

from __future__ import annotations

import math

import pytest

from common.errors import Conflict, Corrupted
from coordinator.adapters.sql import SqlStore, make_store
from coordinator.domain.quotas import Amount, Grant
from coordinator.scheduling import events as e
from coordinator.scheduling.records import Ask, Device, Lease, Need, Node, Policy, Slice, State
from tests.contract.test_store_schema import change

NEED = Need(kind="cuda", milli=500, mib=20_000, cpu_milli=2000, ram_mib=4096)
NODE = Node("node_1", "north", 8000, 64_000, 2, (Device("GPU-1", "cuda", 80_000),), frozenset({"b", "a"}), 1.5)
GRANT = Grant("north", "south", Amount({"cuda": 1000}, {}, 0, 0), Amount({"cuda": 2000}), 3, 7, "ann", 1.5)
ASK = Ask("job_1/3", "job_1", "south", NEED, 1, 2, 900, 60_000, 5, 2700, ("node_1", "node_2"), frozenset({"a"}), "high")
LEASE = Lease(
    "job_1/3", "job_1", "south", "node_1", "north", NEED, (Slice("GPU-1", 500, 20_000),), 10, 60_010, 900, True
)  # fmt: skip
POLICY = Policy("priority", True, 4.0, {"high": math.inf}, 86_400_000, 2)
USE = {("north", "south"): 0.1 + 0.2, ("north", "west"): 1e300}
EVENTS = (
    e.Began(POLICY), e.Came(NODE), e.Given(GRANT), e.Welcomed("south", ("north",)), e.Asked(ASK), e.Started("job_1/3", (LEASE,)),
    e.Ended("job_1/3", "node_1", "done"), e.Expired("job_1/3", "node_1"), e.Revoked("job_1/3", "node_1", "over"),
    e.Withdrawn("job_1/3"), e.Taken("north", "south"), e.Left("node_1"),
)  # fmt: skip


def entries(count: int, first: int = 1) -> list[e.Entry]:
    return [e.Entry(first + i, 1000 + i, i % 3, EVENTS[i % len(EVENTS)]) for i in range(count)]


async def test_every_kind_of_event_comes_back_as_it_was(store: SqlStore):
    written = entries(len(EVENTS))
    await store.write(lambda tx: tx.schedule.append(written))
    assert await store.read(lambda tx: tx.schedule.entries(0)) == written
    assert await store.read(lambda tx: tx.schedule.entries(3, 2)) == written[3:5]
    assert await store.read(lambda tx: tx.schedule.last()) == written[-1]
    assert {type(event) for event in EVENTS} == set(e.KINDS.values())


async def test_a_number_is_given_once(store: SqlStore):
    await store.write(lambda tx: tx.schedule.append(entries(3)))
    with pytest.raises(Conflict):
        await store.write(lambda tx: tx.schedule.append(entries(2, first=3)))
    assert len(await store.read(lambda tx: tx.schedule.entries(0))) == 3


async def test_an_asks_own_events_are_found_in_order(store: SqlStore):
    await store.write(lambda tx: tx.schedule.append(entries(24)))
    found = await store.read(lambda tx: tx.schedule.of_ask("job_1/3"))
    assert [entry.seq for entry in found] == sorted(entry.seq for entry in found)
    assert len(found) == 12  # by hand: six of the twelve kinds name an ask
    assert await store.read(lambda tx: tx.schedule.of_ask("job_1/33")) == []


async def test_a_snapshot_keeps_every_number_exactly(store: SqlStore):
    snapshot = e.Snapshot(
        5, 99, State(POLICY, (NODE,), (ASK,), (LEASE,), (GRANT,), USE), {"times": {"level": [0.1, 2]}}
    )
    await store.write(lambda tx: tx.schedule.put_snapshot(snapshot))
    await store.write(lambda tx: tx.schedule.put_snapshot(e.Snapshot(9, 100, State(POLICY, ()))))
    assert await store.read(lambda tx: tx.schedule.snapshot(8)) == snapshot
    assert (await store.read(lambda tx: tx.schedule.snapshot())).seq == 9
    assert await store.read(lambda tx: tx.schedule.snapshot(4)) is None


async def test_pruning_leaves_a_snapshot_and_all_that_follows_it(store: SqlStore):
    await store.write(lambda tx: tx.schedule.append(entries(40)))
    assert await store.write(lambda tx: tx.schedule.prune(30)) == 0  # nothing without a snapshot
    for seq in (10, 20, 30):
        await store.write(lambda tx, at=seq: tx.schedule.put_snapshot(e.Snapshot(at, at, State(POLICY, ()))))
    assert await store.write(lambda tx: tx.schedule.prune(25)) == 20
    assert [entry.seq for entry in await store.read(lambda tx: tx.schedule.entries(0))] == list(range(21, 41))
    assert (await store.read(lambda tx: tx.schedule.snapshot(20))).seq == 20
    assert await store.read(lambda tx: tx.schedule.snapshot(19)) is None


async def test_an_event_of_another_release_is_a_typed_error(store: SqlStore, store_url: str):
    await store.write(lambda tx: tx.schedule.append(entries(1)))
    await store.close()
    change(store_url, "UPDATE schedule_events SET kind = 'vanished'")
    opened = make_store(store_url)
    with pytest.raises(Corrupted, match="vanished"):
        await opened.read(lambda tx: tx.schedule.entries(0))
    await opened.close()
