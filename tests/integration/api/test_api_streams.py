"""A job's events, live, over a real socket."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from coordinator.domain.jobs import JobEvent, advance
from tests.integration.api.kit import API, Server
from tests.unit.api.world import JOB


async def events(lines):
    """Yield (id, event, data), and None for a comment."""
    fields = {}
    async for line in lines:
        if line.startswith(":"):
            yield None
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "id" in fields:
            yield int(fields["id"]), fields["event"], json.loads(fields["data"])
            fields = {}


async def finish(world):
    def work(tx):
        job = tx.jobs.get(JOB)
        tx.jobs.put(replace(job, state=advance(job.state, JobEvent.CANCELLED)))

    world.services.feed.note(JOB, "job_cancelled", by="test")
    await world.services.feed.commit(JOB, work)


@pytest.mark.integration
async def test_a_job_is_followed_live_from_where_the_reader_left_off(world):
    accept = {"Accept": "text/event-stream"}
    async with Server(world, world.settings) as client, client:
        async with client.stream("GET", f"{API}/jobs/{JOB}/events", headers=accept) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            reader = events(stream.aiter_lines())
            history = [await anext(reader) for _ in range(3)]
            first = history[0][0]
            assert [e[0] for e in history] == [first, first + 1, first + 2]
            assert history[0][1:] == ("round_aggregated", history[0][2])
            assert history[0][2]["facts"] == {"round": 0, "loss": None}
            assert await anext(reader) is None  # a heartbeat while nothing happens
            world.services.feed.note(JOB, "round_aggregated", round=3)
            await world.services.feed.commit(JOB)
            live = await anext(e async for e in reader if e)
            assert (live[0], live[2]["facts"]) == (first + 3, {"round": 3})
        resumed = accept | {"Last-Event-ID": str(first + 1)}
        async with client.stream("GET", f"{API}/jobs/{JOB}/events", headers=resumed) as stream:
            reader = events(stream.aiter_lines())
            assert [(await anext(reader))[0] for _ in range(2)] == [first + 2, first + 3]
            await finish(world)
            rest = [e async for e in reader if e]
        assert [e[1] for e in rest] == ["job_cancelled"]  # and the stream has ended by itself


@pytest.mark.integration
async def test_an_event_stream_ends_after_a_while_so_that_its_reader_is_judged_anew(world):
    url, headers = f"{API}/jobs/{JOB}/events", {"Accept": "text/event-stream"}
    async with Server(world, replace(world.settings, stream=0.0)) as client, client:
        answer = await client.get(url, headers=headers)
    assert answer.text == "retry: 1000\n\n"
