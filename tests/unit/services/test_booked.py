"""Bytes are booked before they are stored, and booked out where they were not."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from common.clock import ManualClock
from common.errors import TenantQuotaExceeded, Unreachable
from coordinator.adapters.blobs_dir import DirectoryBlobs
from coordinator.adapters.sql import make_store
from coordinator.domain.quotas import Allowance
from coordinator.services.allowances import Allowances
from coordinator.services.booked import BookedBlobs, all_or_none


class Failing(DirectoryBlobs):
    """A store of blobs that is away when told."""

    away = False

    async def put_bytes(self, tenant, data):
        if self.away:
            raise Unreachable("away")
        return await super().put_bytes(tenant, data)


@pytest.fixture
async def world(tmp_path):
    store = make_store(str(tmp_path / "db"))
    await store.acquire_epoch()
    blobs = Failing(tmp_path / "blobs")
    allowances = Allowances(store, ManualClock(), Allowance("platform", 1, 1, 100), lambda _: 0)
    yield BookedBlobs(blobs, store, allowances.check_stored), blobs, store
    await store.close()


def stored(store, tenant="north"):
    return store.read(lambda tx: tx.quotas.stored(tenant))


def file(blobs, data):
    path = blobs.work_dir() / hashlib.sha256(data).hexdigest()[:8]
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


async def test_the_limit_is_the_tenants_own_and_exact(world):
    booked, blobs, store = world
    await booked.put_bytes("north", b"a" * 60)
    await booked.put_bytes("south", b"a" * 100)
    await booked.put_bytes("north", b"b" * 40)
    with pytest.raises(
        TenantQuotaExceeded, match="north would have 101 bytes stored at the coordinator, 100 bytes are"
    ):
        await booked.put_bytes("north", b"c")
    assert not await blobs.exists("north", hashlib.sha256(b"c").hexdigest())
    assert await stored(store) == 100
    assert await booked.put_bytes("north", b"a" * 60)  # what is there costs nothing
    assert await stored(store) == 100


async def test_a_file_that_does_not_fit_is_not_kept_anywhere(world):
    booked, blobs, store = world
    path, digest = file(blobs, b"f" * 101)
    with pytest.raises(TenantQuotaExceeded):
        await booked.put_file("north", path, digest)
    assert not path.exists()
    assert (await stored(store), await blobs.exists("north", digest)) == (0, False)
    path, digest = file(blobs, b"f" * 100)
    await booked.put_file("north", path, digest)
    assert await stored(store) == 100


async def test_what_could_not_be_stored_is_booked_out_again(world):
    booked, blobs, store = world
    blobs.away = True
    with pytest.raises(Unreachable):
        await booked.put_bytes("north", b"x" * 90)
    assert await stored(store) == 0
    blobs.away = False
    await booked.put_bytes("north", b"x" * 90)
    assert await stored(store) == 90


async def test_the_same_bytes_twice_at_once_are_booked_once(world):
    booked, _, store = world
    await asyncio.gather(*(booked.put_bytes("north", b"y" * 80) for _ in range(6)))
    assert await stored(store) == 80


async def test_deleting_makes_room_and_says_so(world):
    booked, blobs, store = world
    digests = [await booked.put_bytes("north", bytes([n]) * 40) for n in range(2)]
    news, others = booked.news("north"), booked.news("south")
    await booked.delete_all("north", digests)
    assert await stored(store) == 0
    assert not await blobs.exists("north", digests[0])
    assert news.is_set()
    assert not others.is_set()
    assert not booked.news("north").is_set()


async def test_a_new_allowance_is_news_too(world):
    booked, _, _ = world
    news = booked.news("north")
    booked.allow(Allowance("north", 1, 1, 1000))
    assert news.is_set()


async def test_half_of_something_is_removed_and_what_was_there_before_stays(world):
    booked, _, store = world
    before = await booked.put_bytes("north", b"old" * 10)

    async def bring() -> None:
        async with all_or_none(booked):
            await booked.put_bytes("north", b"old" * 10)
            await booked.put_bytes("north", b"new" * 20)
            await booked.put_bytes("north", b"too much" * 10)

    with pytest.raises(TenantQuotaExceeded):
        await bring()
    assert [d async for d in booked.list("north")] == [before]
    assert await stored(store) == 30
    async with all_or_none(booked):
        await booked.put_bytes("north", b"new" * 20)
    assert await stored(store) == 90


async def test_what_another_counts_on_is_not_removed_with_the_half(world):
    booked, _, store = world
    go_on, found = asyncio.Event(), asyncio.Event()

    async def fails() -> None:
        async with all_or_none(booked):
            await booked.put_bytes("north", b"shared" * 10)
            found.set()
            await go_on.wait()
            await booked.put_bytes("north", b"too much" * 10)

    async def counts_on_it() -> None:
        await found.wait()
        async with all_or_none(booked):
            assert await booked.exists("north", hashlib.sha256(b"shared" * 10).hexdigest())
            go_on.set()
            await asyncio.wait({failing})

    failing = asyncio.create_task(fails())
    await counts_on_it()
    assert isinstance(failing.exception(), TenantQuotaExceeded)
    assert await stored(store) == 60
    assert await booked.exists("north", hashlib.sha256(b"shared" * 10).hexdigest())


async def test_after_any_other_error_what_was_stored_stays(world):
    booked, _, store = world

    async def cancelled() -> None:
        async with all_or_none(booked):
            await booked.put_bytes("north", b"kept" * 10)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await cancelled()
    assert await stored(store) == 40
    assert len([d async for d in booked.list("north")]) == 1
