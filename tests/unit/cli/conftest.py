"""A coordinator that plays back what a test tells it, over a real loopback socket, and a command to call it with."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from common.cli.__main__ import run


class Playback:
    """Answers by (method, path); remembers what it was asked."""

    def __init__(self):
        self.answers, self.asked = {}, []
        playback = self

        class Answering(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.answer()

            do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                path = self.path.partition("?")[0].removeprefix("/api/v1")
                playback.asked.append(
                    (
                        self.command,
                        self.path.removeprefix("/api/v1"),
                        body,
                        {k.lower(): v for k, v in self.headers.items()},
                    )
                )
                status, answer = playback.answers.get(
                    (self.command, path), (404, {"code": "not_found", "detail": f"no {path}", "next_step": ""})
                )
                if "after=" in self.path:
                    after = int(self.path.rpartition("after=")[2])
                    answer = {"items": [row for row in answer["items"] if row["seq"] > after]}
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/problem+json" if status >= 400 else "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def on(self, method, path, answer, status=200):
        self.answers[method, path] = (status, answer)

    def items(self, path, rows):
        self.on("GET", path, {"items": rows, "next_page_token": None})

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hub():
    playback = Playback()
    yield playback
    playback.close()


@pytest.fixture
def hansa(hub, monkeypatch, capfd):
    """Run the command against the playback; returns (code, stdout, stderr)."""
    monkeypatch.setenv("HANSA_URL", hub.url)
    monkeypatch.setenv("HANSA_TOKEN", "hat1_a.b")

    def call(*argv):
        capfd.readouterr()
        code = run([str(a) for a in argv])
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def job():
    def make(**fields):
        return {
            "id": "job_0123456789abcdef", "tenant": "cleveland", "federation": "hospitals", "submitted_by": "ana",
            "app": "a" * 64, "app_name": "heart", "model": "heart", "run_config": {}, "seed": 1, "state": "running",
            "note": "", "reason": "", "round": 3, "rounds": 25, "metrics": {}, "roster": [],
            "created_at": "2026-01-01T00:00:00.000Z", "started_at": None, "ended_at": None, "waits": [], **fields,
        }  # fmt: skip

    return make


@pytest.fixture
def node():
    def make(**fields):
        return {
            "id": "node_0123456789abcdef", "tenant": "cleveland", "name": "cleveland", "status": "active",
            "online": True, "state": "online", "created_at": "2026-01-01T00:00:00.000Z", "seen_at": None,
            "certificate_until": "2026-01-02T00:00:00.000Z", "generation": 1, "datasets": [], "approvals": [],
            "environments": ["default"], "slots": 1, "cpus": 2, "memory_mib": 1, "sandbox": "bwrap", "serving": "",
            "devices": [], "labels": [], "enforcement": ["visible", "files"],
            "release": "0.1.0", "skew_s": 0.0, **fields,
        }  # fmt: skip

    return make
