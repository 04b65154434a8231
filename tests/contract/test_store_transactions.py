"""The store's three guarantees: durable, fenced, serialisable; crashes included."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import BadInput, LeaseLost, PlatformError, Unreachable
from common.ids import JobId, NodeId
from coordinator.adapters.sql import SqlStore, make_store
from coordinator.ports.store import Tx
from tests.contract import records as r


class Broken(Exception):
    pass


async def test_a_write_that_raises_changes_nothing(store: SqlStore):
    def work(tx: Tx) -> None:
        tx.tenants.add(r.tenant())
        raise Broken

    with pytest.raises(Broken):
        await store.write(work)
    assert await store.read(lambda tx: tx.tenants.list()) == []


async def test_a_read_transaction_cannot_write(store: SqlStore):
    with pytest.raises(PlatformError):
        await store.read(lambda tx: tx.tenants.add(r.tenant()))
    assert await store.read(lambda tx: tx.tenants.list()) == []


async def test_a_read_sees_one_moment(store: SqlStore):
    """A write that comes between the two queries of one read is not seen by the second."""
    loop = asyncio.get_running_loop()

    def work(tx: Tx) -> tuple[int, int]:
        before = len(tx.tenants.list())
        asyncio.run_coroutine_threadsafe(store.write(lambda w: w.tenants.add(r.tenant())), loop).result(30)
        return before, len(tx.tenants.list())

    assert await store.read(work) == (0, 0)
    assert len(await store.read(lambda tx: tx.tenants.list())) == 1


async def test_nothing_is_written_before_an_epoch_is_taken(second_store: SqlStore):
    with pytest.raises(LeaseLost):
        await second_store.write(lambda tx: tx.tenants.add(r.tenant()))
    assert await second_store.read(lambda tx: tx.tenants.list()) == []


async def test_a_coordinator_that_was_replaced_can_write_no_more(store: SqlStore, second_store: SqlStore):
    await store.write(lambda tx: tx.tenants.add(r.tenant()))
    first, second = await store.acquire_epoch(), await second_store.acquire_epoch()
    assert second == first + 1
    with pytest.raises(LeaseLost):
        await store.write(lambda tx: tx.tenants.add(r.tenant(r.SOUTH)))
    assert await second_store.read(lambda tx: tx.tenants.list()) == [r.tenant()]
    await second_store.write(lambda tx: tx.tenants.add(r.tenant(r.SOUTH)))


async def test_an_epoch_is_not_taken_in_the_middle_of_a_write(store: SqlStore, second_store: SqlStore):
    """What the old coordinator committed is there before the new one has its number, or was never written."""
    inside, go_on = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        tx.tenants.add(r.tenant())
        inside.set()
        assert go_on.wait(30)

    writing = asyncio.create_task(store.write(slow))
    await asyncio.to_thread(inside.wait, 30)
    taking = asyncio.create_task(second_store.acquire_epoch())
    done, _ = await asyncio.wait({taking}, timeout=0.3)
    assert not done
    go_on.set()
    await asyncio.gather(writing, taking)
    assert await second_store.read(lambda tx: tx.tenants.list()) == [r.tenant()]


async def test_one_of_two_writers_burns_a_join_token(store: SqlStore, second_store: SqlStore):
    second_store._epoch = store._epoch  # the race below the fence: two connections, both allowed to write
    for number in range(20):
        await store.write(lambda tx, n=number: tx.nodes.add_join_token(r.join_token(f"jt_{n}")))
        burns = [
            one.write(lambda tx, n=number, who=who: tx.nodes.burn_join_token(f"jt_{n}", NodeId(who), r.A, 1.0))
            for who, one in (("node_1", store), ("node_2", second_store))
        ]
        won = await asyncio.gather(*burns)
        assert sorted(won) == [False, True]
        found = await store.read(lambda tx, n=number: tx.nodes.join_token(f"jt_{n}"))
        assert found.used_by == ("node_1" if won[0] else "node_2")


async def test_one_of_two_writers_moves_an_alias(store: SqlStore, second_store: SqlStore):
    second_store._epoch = store._epoch
    for generation in range(20):
        moves = [
            one.write(lambda tx, n=n, g=generation: tx.models.move_alias(r.alias(0, n), expected_generation=g))
            for n, one in ((1, store), (2, second_store))
        ]
        won = await asyncio.gather(*moves)
        assert sorted(won) == [False, True]
        assert await store.read(lambda tx: tx.models.alias(r.NORTH, "heart", "latest")) == r.alias(
            generation + 1, 1 if won[0] else 2
        )


async def test_two_writers_of_one_log_leave_no_gap_and_no_twin(store: SqlStore, second_store: SqlStore):
    second_store._epoch = store._epoch
    writers = [
        one.write(lambda tx: tx.jobs.log(JobId("job_1"), 1.0, "a", {}))
        for _ in range(20)
        for one in (store, second_store)
    ]
    seqs = [entry.seq for entry in await asyncio.gather(*writers)]
    assert sorted(seqs) == list(range(1, 41))


@pytest.mark.parametrize("acknowledged", [1, 40])
async def test_a_killed_writer_loses_nothing_it_was_told_was_written(store_url: str, acknowledged: int):
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.contract.writer", store_url],
        stdout=subprocess.PIPE, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, start_new_session=True,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        while int(child.stdout.readline()) < acknowledged:
            pass
    finally:
        child.kill()
        rest = child.stdout.read().splitlines()
        child.wait()
        child.stdout.close()
    last = int(rest[-1]) if rest else acknowledged
    store = make_store(store_url)
    await store.acquire_epoch()
    log = await store.read(lambda tx: tx.jobs.log_since(r.job().id, 0, limit=10**6))
    assert len(log) >= last
    assert [entry.seq for entry in log] == list(range(1, len(log) + 1))
    # One transaction is all or nothing: job, journal and log are at the same round.
    assert (await store.read(lambda tx: tx.jobs.get(r.job().id))).round == len(log)
    assert [e.seq for e in await store.read(lambda tx: tx.jobs.exchanges(r.job().id))] == [e.seq for e in log]
    await store.write(lambda tx: tx.jobs.put(replace(r.job(), note="goes on")))
    await store.close()


async def test_a_closed_store_says_so(store_url: str):
    store = make_store(store_url)
    await store.close()
    with pytest.raises(Unreachable, match="closed"):
        await store.read(lambda tx: tx.tenants.list())


async def test_what_json_cannot_carry_is_refused_before_it_is_written(store: SqlStore):
    with pytest.raises(BadInput):
        await store.write(lambda tx: tx.jobs.log(JobId("job_1"), 1.0, "a", {"thing": object()}))
