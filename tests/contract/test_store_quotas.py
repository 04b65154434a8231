"""Grants, allowances and the account of stored bytes: kept as given, and one writer at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from common.errors import QuotaExceeded
from common.ids import Digest, TenantId
from coordinator.adapters.sql import SqlStore, make_store
from coordinator.domain.quotas import Allowance, Amount, Grant
from coordinator.ports.store import Tx
from tests.contract import records as r
from tests.contract.test_store_schema import change, older

EAST = TenantId("east")
GUARANTEE = Amount({"cuda": 2000, "rocm": 500}, {"cuda": 40960}, 8000, 65536)
LIMIT = Amount({"tpu": 0}, {}, None, 2**40)
GRANT = Grant(r.NORTH, r.SOUTH, GUARANTEE, LIMIT, 3, 1, "ann@north", 1000.5)
ALLOWANCE = Allowance(r.SOUTH, 4, 50, 2**45, 1, "root", 1000.5)


def put(grant: Grant, expected: int) -> Callable[[Tx], bool]:
    return lambda tx: tx.quotas.put_grant(grant, expected_generation=expected)


async def test_a_grant_comes_back_as_it_was_given(store: SqlStore):
    assert await store.write(put(replace(GRANT, generation=77), 0))
    assert await store.read(lambda tx: tx.quotas.grant(r.NORTH, r.SOUTH)) == GRANT
    assert await store.read(lambda tx: tx.quotas.grant(r.SOUTH, r.NORTH)) is None


async def test_grants_are_listed_by_site_and_by_tenant(store: SqlStore):
    pairs = [(r.SOUTH, EAST), (r.NORTH, r.SOUTH), (r.NORTH, EAST), (r.NORTH, r.NORTH)]
    for site, tenant in pairs:
        assert await store.write(put(Grant(site, tenant), 0))

    async def listed(**which: TenantId) -> list[tuple[TenantId, TenantId]]:
        return [(g.site, g.tenant) for g in await store.read(lambda tx: tx.quotas.grants(**which))]

    assert await listed() == sorted(pairs)
    assert await listed(site=r.NORTH) == [(r.NORTH, EAST), (r.NORTH, r.NORTH), (r.NORTH, r.SOUTH)]
    assert await listed(tenant=EAST) == [(r.NORTH, EAST), (r.SOUTH, EAST)]
    assert await listed(site=r.NORTH, tenant=EAST) == [(r.NORTH, EAST)]


async def test_a_grant_is_replaced_and_removed_only_by_who_has_seen_it(store: SqlStore):
    assert await store.write(put(GRANT, 0))
    assert not await store.write(put(replace(GRANT, weight=9), 0))
    assert not await store.write(put(replace(GRANT, weight=9), 2))
    assert await store.write(put(replace(GRANT, weight=9), 1))
    assert await store.read(lambda tx: tx.quotas.grant(r.NORTH, r.SOUTH)) == replace(GRANT, weight=9, generation=2)
    remove = lambda seen: store.write(lambda tx: tx.quotas.remove_grant(r.NORTH, r.SOUTH, expected_generation=seen))  # noqa: E731
    assert not await remove(1)
    assert await remove(2)
    assert not await remove(2)
    assert await store.read(lambda tx: tx.quotas.grants()) == []


async def test_an_allowance_is_kept_replaced_and_removed_in_the_same_way(store: SqlStore):
    write = lambda value, seen: store.write(lambda tx: tx.quotas.put_allowance(value, expected_generation=seen))  # noqa: E731
    remove = lambda seen: store.write(lambda tx: tx.quotas.remove_allowance(r.SOUTH, expected_generation=seen))  # noqa: E731
    assert await write(ALLOWANCE, 0)
    assert not await write(ALLOWANCE, 0)
    assert await write(replace(ALLOWANCE, running_jobs=0), 1)
    assert not await write(ALLOWANCE, 1)
    after = replace(ALLOWANCE, running_jobs=0, generation=2)
    assert await store.read(lambda tx: tx.quotas.allowance(r.SOUTH)) == after
    assert await store.read(lambda tx: tx.quotas.allowances()) == [after]
    assert not await remove(1)
    assert await remove(2)
    assert await store.read(lambda tx: tx.quotas.allowance(r.SOUTH)) is None


async def test_one_of_two_writers_sets_a_grant(store: SqlStore, second_store: SqlStore):
    second_store._epoch = store._epoch  # the race below the fence: two connections, both allowed to write
    for generation in range(20):
        sets = [one.write(put(replace(GRANT, weight=w), generation)) for w, one in ((5, store), (6, second_store))]
        won = await asyncio.gather(*sets)
        assert sorted(won) == [False, True]
        found = await store.read(lambda tx: tx.quotas.grant(r.NORTH, r.SOUTH))
        assert (found.weight, found.generation) == (5 if won[0] else 6, generation + 1)


async def test_a_blob_counts_once_until_it_is_dropped(store: SqlStore):
    keep = lambda tenant, digest, size: store.write(lambda tx: tx.quotas.keep(tenant, digest, size))  # noqa: E731
    total = lambda tenant: store.read(lambda tx: tx.quotas.stored(tenant))  # noqa: E731
    assert await total(r.NORTH) == 0
    assert await keep(r.NORTH, r.A, 100) == 100
    assert await keep(r.NORTH, r.A, 100) is None
    assert await keep(r.NORTH, r.B, 2**50) == 100 + 2**50
    assert await keep(r.NORTH, r.C, 0) == 100 + 2**50
    assert await keep(r.SOUTH, r.A, 7) == 7
    assert (await total(r.NORTH), await total(r.SOUTH)) == (100 + 2**50, 7)
    await store.write(lambda tx: tx.quotas.drop(r.NORTH, r.A))
    await store.write(lambda tx: tx.quotas.drop(r.NORTH, r.A))
    assert (await total(r.NORTH), await total(r.SOUTH)) == (2**50, 7)
    assert await keep(r.NORTH, r.A, 100) == 100 + 2**50
    assert await total(r.NORTH) == 100 + 2**50


async def test_two_that_would_together_pass_a_limit_do_not_both_pass(store: SqlStore, second_store: SqlStore):
    second_store._epoch = store._epoch

    def book(digest: Digest, limit: int) -> Callable[[Tx], None]:
        def work(tx: Tx) -> None:
            tx.quotas.keep(r.NORTH, digest, 60)
            if tx.quotas.stored(r.NORTH) > limit:
                raise QuotaExceeded("full")

        return work

    for turn in range(10):
        limit = 60 * turn + 100  # one more fits, two do not
        blobs = (Digest(f"{2 * turn:064x}"), Digest(f"{2 * turn + 1:064x}"))
        writes = [one.write(book(blob, limit)) for blob, one in zip(blobs, (store, second_store), strict=True)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["NoneType", "QuotaExceeded"]
        assert await store.read(lambda tx: tx.quotas.stored(r.NORTH)) == 60 * (turn + 1)


async def test_apps_of_before_are_booked_by_the_migration(store_url: str):
    older(store_url, "0002")
    for tenant, digest, bundle, size in (("north", "a", r.A, 10), ("north", "b", r.B, 20), ("south", "a", r.A, 10)):
        row = f"'{tenant}', '{digest}', 'app', '{bundle}', {size}, 1.0"
        change(store_url, f"INSERT INTO apps (tenant, digest, name, bundle, size, created_at) VALUES ({row})")
    opened = make_store(store_url)
    try:
        assert await opened.read(lambda tx: tx.quotas.stored(r.NORTH)) == 30
        assert await opened.read(lambda tx: tx.quotas.stored(r.SOUTH)) == 10
    finally:
        await opened.close()
