"""Following a job: each entry once and in order, however often the stream breaks."""

import json

import httpx
import pytest

from common.client.events import follow, lines, parse
from common.client.http import Http
from common.errors import Unreachable

JOB = {
    "id": "j", "tenant": "t", "federation": "f", "submitted_by": "s", "app": "", "app_name": "", "model": "",
    "run_config": {}, "seed": 0, "state": "running", "note": "", "reason": "", "round": 0, "rounds": 0, "metrics": {},
    "roster": [], "created_at": "", "started_at": None, "ended_at": None, "waits": [],
}  # fmt: skip


def entry(seq):
    return {"seq": seq, "at": "2026-01-01T00:00:00.000Z", "event": "round_aggregated", "facts": {"text": "a\u2028b"}}


def stream(*seqs):
    text = ": hello\nretry: 1000\n\n"
    text += "".join(f"id: {n}\ndata: {json.dumps(entry(n), ensure_ascii=False)}\n\n" for n in seqs)
    return httpx.Response(200, text=text, headers={"content-type": "text/event-stream; charset=utf-8"})


class Server:
    """Plays a list of answers to the event stream; the job is final once they are used up."""

    def __init__(self, answers, items=()):
        self.answers, self.items, self.resumed = list(answers), list(items), []

    def __call__(self, request):
        if not request.url.path.endswith("/events"):
            return httpx.Response(200, json={**JOB, "state": "running" if self.answers else "succeeded"})
        if "last-event-id" not in request.headers:
            after = int(request.url.params["after"])
            return httpx.Response(200, json={"items": [e for e in self.items if e["seq"] > after]})
        self.resumed.append(request.headers["last-event-id"])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def followed(server, **how):
    http = Http("https://hub:1", "t", transport=httpx.MockTransport(server))
    return [e["seq"] for e in follow(http, "j", sleep=lambda _: None, **how)]


def test_lines_are_split_at_line_feeds_only():
    assert list(lines([b"a\r\nb\xe2\x80", b"\xa8c\n\nd"])) == ["a", "b\u2028c", ""]


def test_messages_follow_the_standard():
    text = ["id: 1", "event: x", "data: a", "data:b", "", "data: c", "", ":comment", "", "event: lost", "", "data", ""]
    assert [(m.id, m.event, m.data) for m in parse(text)] == [
        ("1", "x", "a\nb"),
        ("1", "message", "c"),
        ("1", "message", ""),
    ]


def test_a_broken_stream_is_resumed_behind_the_last_entry():
    server = Server([stream(1, 2), httpx.ReadTimeout("silence"), stream(3), stream()])
    assert followed(server) == [1, 2, 3]
    assert server.resumed == ["0", "2", "2", "3"]


def test_entries_sent_twice_are_seen_once():
    assert followed(Server([stream(1, 2), stream(1, 2, 3)])) == [1, 2, 3]


def test_pages_are_read_where_streams_are_stripped():
    server = Server([httpx.Response(200, json={"items": []})], items=[entry(1), entry(2)])
    assert followed(server) == [1, 2]


def test_what_came_between_the_stream_and_the_end_is_not_lost():
    assert followed(Server([stream(1)], items=[entry(1), entry(2)])) == [1, 2]


def test_a_coordinator_that_stays_away_is_unreachable():
    with pytest.raises(Unreachable):
        followed(Server([httpx.ConnectError("no")] * 50), give_up_s=5)


def test_following_may_begin_in_the_middle():
    assert followed(Server([stream(3)]), after=2) == [3]
