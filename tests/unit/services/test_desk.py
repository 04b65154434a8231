"""A job is never forgotten: not while the store is away, and not by those who cancel it twice."""

import asyncio
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest

from common.clock import ManualClock
from common.errors import IllegalTransition, QuotaExceeded, Unreachable
from common.jobspec import JobSpec
from coordinator.adapters.sql import make_store
from coordinator.domain.jobs import Job, JobState
from coordinator.services.desk import JobDesk
from coordinator.services.feed import JobFeed

# Its federation is not there, so it fails at its first step, as soon as that can be written down.
JOB = Job(
    "job_1", "cleveland", "fed", "me", "a" * 64, "b" * 64, JobSpec("a", "s:a", "c:a", {}), 1, 2, JobState.QUEUED, "",
    "", 0.0,
)  # fmt: skip


class Shaky:
    """A store that is away now and then."""

    def __init__(self, store):
        self._store = store
        self.error = None
        self.refused = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, work):
        return await self._do(self._store.read, work)

    async def write(self, work):
        await self.gate.wait()
        return await self._do(self._store.write, work)

    async def _do(self, act, work):
        if self.error is not None:
            self.refused += 1
            raise self.error
        return await act(work)


@pytest.fixture
async def store(tmp_path):
    made = make_store(str(tmp_path / "db"))
    await made.acquire_epoch()
    await made.write(lambda tx: tx.jobs.put(JOB))
    yield Shaky(made)
    await made.close()


@pytest.fixture
async def desk(store, tmp_path):
    nothing = SimpleNamespace(close=lambda: None, settle=lambda: None, send=lambda *_: None)
    schedule = SimpleNamespace(
        start=AsyncMock(),
        journal=SimpleNamespace(learn=AsyncMock()),
        close=AsyncMock(),
        grant=None,
        release=lambda *_, **__: None,
    )
    places = SimpleNamespace(take=AsyncMock(), give=lambda _: None)
    blobs = SimpleNamespace(delete_all=AsyncMock())
    estimates = SimpleNamespace(record=dict, restore=lambda _: None)
    around = SimpleNamespace(
        estimates=estimates,
        places=places, blobs=blobs, schedule=schedule,
        store=store, feed=JobFeed(store, ManualClock(), every_s=60), clock=ManualClock(),
        collector=nothing, link=nothing, settings=SimpleNamespace(jobs_dir=tmp_path, again_s=0.01),
    )  # fmt: skip
    made = JobDesk(around)
    yield made
    store.error = None
    store.gate.set()
    await made.close()


async def ended(store):
    while (job := await store._store.read(lambda tx: tx.jobs.get(JOB.id))).state is not JobState.FAILED:
        await asyncio.sleep(0.01)
    return job


@pytest.mark.parametrize("error", [Unreachable("gone for a moment"), QuotaExceeded("no room left")])
async def test_a_job_goes_on_when_the_store_is_back(store, desk, error):
    store.error = error
    await desk.admit(JOB)
    async with asyncio.timeout(30):
        while store.refused < 5:
            await asyncio.sleep(0.01)
        store.error = None
        job = await ended(store)
    assert job.reason == "not_found"


async def test_who_cancels_twice_ends_it_once(store, desk):
    store.gate.clear()
    await desk.admit(JOB)
    async with asyncio.timeout(30):
        both = [asyncio.create_task(desk.cancel(JOB.id, "ada")) for _ in range(2)]
        await asyncio.sleep(0.05)
        store.gate.set()
        await asyncio.gather(*both)
    job = await store.read(lambda tx: tx.jobs.get(JOB.id))
    assert job.state in {JobState.CANCELLED, JobState.FAILED}
    with pytest.raises(IllegalTransition):
        await desk.cancel(JOB.id, "ada")


async def test_a_cancel_that_cannot_be_written_down_says_so(store, desk):
    store.gate.clear()
    await desk.admit(JOB)
    cancel = asyncio.create_task(desk.cancel(JOB.id, "ada"))
    await asyncio.sleep(0.05)
    store.error = Unreachable("gone for a moment")
    store.gate.set()
    with pytest.raises(Unreachable):
        await cancel
    store.error = None
    async with asyncio.timeout(30):
        await ended(store)
