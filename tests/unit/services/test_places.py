"""A tenant's jobs run as many at once as it may, the others wait in the order of their submission."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from common.jobspec import JobSpec
from coordinator.domain.jobs import Job, JobState
from coordinator.domain.quotas import Allowance
from coordinator.services.places import Places

SPEC = JobSpec("a", "s:a", "c:a", {})


def job(number: int, tenant: str = "north", state: JobState = JobState.QUEUED) -> Job:
    return Job(f"job_{number}", tenant, "fed", "me", "a" * 64, "b" * 64, SPEC, 1, 2, state, "", "", float(number))


class Line:
    """Jobs that ask for places, and what became of each."""

    def __init__(self, places: Places) -> None:
        self.places, self.began, self.said, self.tasks = places, [], {}, {}

    async def come(self, *jobs: Job) -> None:
        for one in jobs:
            self.tasks[one.id] = asyncio.create_task(self._wait(one))
            await turn()

    async def go(self, one: Job) -> None:
        self.places.give(one)
        await turn()

    async def _wait(self, one: Job) -> None:
        await self.places.take(one, lambda sentence: self.said.setdefault(one.id, []).append(sentence))
        self.began.append(one.id)


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.fixture
async def line():
    made = Line(Places(2))
    yield made
    for task in made.tasks.values():
        task.cancel()
    await asyncio.gather(*made.tasks.values(), return_exceptions=True)


async def test_jobs_start_in_the_order_of_submission_as_others_end(line):
    jobs = [job(n) for n in range(5)]
    await line.come(jobs[0], jobs[1], jobs[4], jobs[2], jobs[3])
    assert line.began == ["job_0", "job_1"]
    await line.go(jobs[1])
    assert line.began[2:] == ["job_2"]
    await line.go(jobs[0])
    await line.go(jobs[2])
    assert line.began[2:] == ["job_2", "job_3", "job_4"]
    assert line.places.taken("north") == 2


async def test_a_waiting_job_says_why_and_what_the_limit_is(line):
    await line.come(job(0), job(1), job(2))
    assert line.said == {
        "job_2": ["waits for another job of north to end: it may run 2 jobs at once (hansa quota show north)"]
    }
    line.places.allow(Allowance("north", 1, 9, 9))
    assert "it may run 1 job at once" in line.said["job_2"][-1]


async def test_tenants_do_not_wait_for_each_other(line):
    await line.come(*(job(n) for n in range(4)), job(9, "south"))
    assert line.began == ["job_0", "job_1", "job_9"]


async def test_what_had_begun_before_keeps_its_place_whatever_the_limit(line):
    begun = [job(n, state=state) for n, state in enumerate((JobState.RUNNING, JobState.WAITING, JobState.PUBLISHING))]
    await line.come(*begun, job(7))
    assert line.began == [b.id for b in begun]
    await line.go(begun[0])
    assert "job_7" not in line.began
    await line.go(begun[1])
    assert line.began[-1] == "job_7"


async def test_a_raised_limit_starts_who_waits_and_a_lowered_one_stops_nobody(line):
    jobs = [job(n) for n in range(5)]
    await line.come(*jobs)
    line.places.allow(Allowance("north", 4, 9, 9))
    await turn()
    assert line.began == ["job_0", "job_1", "job_2", "job_3"]
    line.places.allow(Allowance("north", 1, 9, 9))
    for one in jobs[:3]:
        await line.go(one)
    assert len(line.began) == 4
    await line.go(jobs[3])
    assert line.began[-1] == "job_4"


async def test_none_may_run_where_the_limit_is_nought(line):
    line.places.allow(Allowance("north", 0, 9, 9))
    await line.come(job(0))
    assert (line.began, line.said["job_0"]) == ([], ["north may run no jobs now (hansa quota show north)"])
    line.places.allow(Allowance("north", 1, 9, 9))
    await turn()
    assert line.began == ["job_0"]


@pytest.mark.parametrize("when", ["while it waits", "as it is called"])
async def test_a_cancelled_job_takes_no_place_with_it(line, when):
    jobs = [job(n) for n in range(4)]
    await line.come(*jobs)
    if when == "as it is called":
        line.places.give(jobs[0])  # calls job_2, whose task has not run yet
    line.tasks["job_2"].cancel()
    await turn()
    if when == "while it waits":
        await line.go(jobs[0])
    assert line.began == ["job_0", "job_1", "job_3"]
    assert line.places.taken("north") == 2


async def test_giving_twice_or_without_having_is_nothing(line):
    await line.come(job(0), job(1), job(2))
    for _ in range(2):
        await line.go(job(0))
    line.places.give(replace(job(8), tenant="nobody"))
    assert line.places.taken("north") == 2
