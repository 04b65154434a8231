"""A job's log: in order, in one transaction with the facts, followed to its last entry."""

import asyncio

import pytest

from common.clock import ManualClock
from common.errors import NotFound
from common.jobspec import JobSpec
from coordinator.adapters.sql import make_store
from coordinator.domain.jobs import Job, JobState
from coordinator.services.feed import JobFeed

JOB = Job(
    "job_1", "cleveland", "fed", "me", "a" * 64, "b" * 64, JobSpec("a", "s:a", "c:a", {}), 1, 2, JobState.RUNNING, "",
    "", 0.0,
)  # fmt: skip


@pytest.fixture
async def store(tmp_path):
    made = make_store(str(tmp_path / "db"))
    await made.acquire_epoch()
    await made.write(lambda tx: tx.jobs.put(JOB))
    yield made
    await made.close()


async def test_entries_are_written_together_and_in_order(store):
    feed = JobFeed(store, ManualClock(), every_s=60)
    for number in range(3):
        feed.note(JOB.id, "round_started", round=number)
    assert await store.read(lambda tx: list(tx.jobs.log_since(JOB.id, 0))) == []
    await feed.commit(JOB.id)
    found = await store.read(lambda tx: list(tx.jobs.log_since(JOB.id, 0)))
    assert [(e.seq, e.facts["round"]) for e in found] == [(1, 0), (2, 1), (3, 2)]


async def test_an_entry_is_written_by_itself_a_moment_later(store):
    feed = JobFeed(store, ManualClock(), every_s=0.001)
    feed.note(JOB.id, "job_succeeded")
    assert [e.event async for e in feed.follow(JOB.id, 0)] == ["job_succeeded"]
    await feed.close()


async def test_a_follower_gets_history_then_news_to_the_last_entry(store):
    feed = JobFeed(store, ManualClock(), every_s=60)
    feed.note(JOB.id, "roster_fixed")
    await feed.commit(JOB.id)
    got = []

    async def follow():
        async for entry in feed.follow(JOB.id, 0):
            got.append(entry.event)  # noqa: PERF401 - one by one, as they come

    follower = asyncio.create_task(follow())
    while not got:
        await asyncio.sleep(0)
    feed.note(JOB.id, "round_started")
    feed.note(JOB.id, "job_failed")
    await feed.commit(JOB.id)
    await asyncio.wait_for(follower, 10)
    assert got == ["roster_fixed", "round_started", "job_failed"]


async def test_a_failed_write_keeps_the_entries_for_the_next(store):
    feed = JobFeed(store, ManualClock(), every_s=60)
    feed.note(JOB.id, "round_started")

    def refuse(tx):
        raise ValueError

    with pytest.raises(ValueError):
        await feed.commit(JOB.id, refuse)
    await feed.commit(JOB.id)
    assert [e.event for e in await store.read(lambda tx: list(tx.jobs.log_since(JOB.id, 0)))] == ["round_started"]


async def test_a_diverged_loss_is_null_and_no_error(store):
    feed = JobFeed(store, ManualClock(), every_s=60)
    feed.note(JOB.id, "evaluated", metrics={"loss": float("nan"), "per": [float("inf"), 1.0]})
    await feed.commit(JOB.id)
    (entry,) = await store.read(lambda tx: list(tx.jobs.log_since(JOB.id, 0)))
    assert entry.facts["metrics"] == {"loss": None, "per": [None, 1.0]}


async def test_following_a_job_that_is_not_there_says_so(store):
    with pytest.raises(NotFound):
        await anext(JobFeed(store, ManualClock()).follow("job_none", 0))
