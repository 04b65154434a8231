"""Server-sent events, and following a job's log across broken connections.

The parser takes lines and returns messages (WHATWG HTML, section 9.2.6); the follower resumes with ``Last-Event-ID``,
so an entry is seen exactly once however often the connection breaks.  Where something between us strips event streams,
it reads JSON pages instead.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from common.client.http import Http, segment
from common.client.records import FINAL_STATES, Job, JobEvent
from common.errors import Unreachable

SILENCE_S = 45.0  # the server sends a comment at least every 15 s; three missed ones are a dead connection
GIVE_UP_S = 60.0  # of being unreachable without a break


@dataclass(frozen=True)
class Message:
    """One dispatched event."""

    id: str
    event: str
    data: str


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines of a byte stream, without their ends.

    ``str.splitlines`` will not do: it also splits at U+2028 and U+0085, which JSON may carry unescaped.
    """
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")


def parse(text: Iterable[str]) -> Iterator[Message]:
    """Yield the messages of an event stream given as lines without their ends."""
    last_id, event, data = "", "", list[str]()
    for line in text:
        if not line:
            if data:
                yield Message(last_id, event or "message", "\n".join(data))
            event, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            event = value
        elif name == "id" and "\0" not in value:
            last_id = value


def follow(
    http: Http,
    job: str,
    after: int = 0,
    *,
    sleep: Callable[[float], None] = time.sleep,
    give_up_s: float = GIVE_UP_S,
) -> Iterator[JobEvent]:
    """Yield a job's log entries with a number above ``after``, history first, then as they come.

    Ends after the last entry of a finished job.

    Raises:
        Unreachable: the coordinator was away for ``give_up_s``.
    """
    pause, away = 0.25, 0.0
    while True:
        try:
            for entry in _stream_once(http, job, after):
                after, pause, away = entry["seq"], 0.25, 0.0
                yield entry
            state = http.call(Job, "GET", f"/jobs/{segment(job)}")["state"]
            if state in FINAL_STATES:
                yield from _page(http, job, after)
                return
            away = 0.0
        except Unreachable:
            away += pause
            if away > give_up_s:
                raise
        sleep(pause)
        pause = min(2 * pause, 5.0)


def _stream_once(http: Http, job: str, after: int) -> Iterator[JobEvent]:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
    with http.stream("GET", f"/jobs/{segment(job)}/events", headers=headers, read_timeout=SILENCE_S) as response:
        streamed = response.headers.get("content-type", "").startswith("text/event-stream")
        for message in parse(lines(response.iter_bytes())) if streamed else ():
            entry = cast(JobEvent, json.loads(message.data))
            if entry["seq"] > after:
                yield entry
    if not streamed:
        yield from _page(http, job, after)


def _page(http: Http, job: str, after: int) -> Iterator[JobEvent]:
    yield from http.pages(JobEvent, f"/jobs/{segment(job)}/events", {"after": after})
