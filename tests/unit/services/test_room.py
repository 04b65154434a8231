"""A job over its tenant's limit stops, says so, and goes on when there is room."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from common.clock import ManualClock
from common.errors import TenantQuotaExceeded
from coordinator.adapters.blobs_dir import DirectoryBlobs
from coordinator.adapters.sql import make_store
from coordinator.domain.quotas import Allowance
from coordinator.domain.tenancy import Tenant
from coordinator.services.allowances import Allowances
from coordinator.services.booked import BookedBlobs
from coordinator.services.preconditions import Seen
from coordinator.services.room import Room
from tests.contract.records import exchange

DATA = b"x" * 900


class Stand:
    def __init__(self, around):
        self.said = []
        self.spoken = asyncio.Event()
        self.around = around
        self.room = Room(around, lambda: SimpleNamespace(tenant="north"), self.say)

    def say(self, sentence):
        self.said.append(sentence)
        self.spoken.set()

    def book(self):
        return self.around.store.write(lambda tx: self.room.book(tx, exchange()))  # one object of 1000 bytes


@pytest.fixture
async def stand(tmp_path):
    store = make_store(str(tmp_path / "db"))
    await store.acquire_epoch()
    allowances = Allowances(store, ManualClock(), Allowance("platform", 1, 1, 950), lambda _: 0)
    blobs = BookedBlobs(DirectoryBlobs(tmp_path / "blobs"), store, allowances.check_stored)
    allowances.on_change(blobs.allow)
    await store.write(lambda tx: tx.tenants.add(Tenant("north", "", 0.0)))
    yield Stand(SimpleNamespace(store=store, blobs=blobs, allowances=allowances))
    await store.close()


async def raised(stand, size):
    await stand.around.allowances.set("north", 1, 1, size, "root", Seen(frozenset({"*"})))


async def test_a_round_is_booked_whatever_the_limit_and_the_job_told_that_it_is_full(stand):
    assert await stand.book() is True
    assert await stand.around.store.read(lambda tx: tx.quotas.stored("north")) == 1000
    await raised(stand, 1000)
    assert await stand.book() is False  # the same objects cost nothing more


async def test_a_full_job_waits_until_more_is_allowed(stand):
    stand.room.full = await stand.book()
    waiting = asyncio.create_task(stand.room.wait())
    await asyncio.wait_for(stand.spoken.wait(), 30)
    assert "1000 bytes stored at the coordinator, 950 bytes are allowed" in stand.said[0]
    assert "--coordinator --stored SIZE" in stand.said[0]
    stand.spoken.clear()
    await raised(stand, 999)
    await asyncio.wait_for(stand.spoken.wait(), 30)
    assert not waiting.done()
    await raised(stand, 1000)
    await asyncio.wait_for(waiting, 30)
    assert not stand.room.full


async def test_what_cannot_be_stored_is_tried_again_when_something_was_deleted(stand):
    old = await stand.around.blobs.put_bytes("north", b"y" * 100)
    storing = asyncio.create_task(stand.room.until(lambda: stand.around.blobs.put_bytes("north", DATA)))
    await asyncio.wait_for(stand.spoken.wait(), 30)
    await stand.around.blobs.delete("north", old)
    digest = await asyncio.wait_for(storing, 30)
    assert await stand.around.blobs.get_bytes("north", digest, limit=900) == DATA


async def test_room_that_comes_while_it_is_tried_is_not_missed(stand):
    tries = []

    async def work():
        tries.append(1)
        if len(tries) == 1:
            await raised(stand, 2000)  # between the refusal and the wait
            raise TenantQuotaExceeded("full")
        return "kept"

    assert await asyncio.wait_for(stand.room.until(work), 30) == "kept"
