"""A whole platform for tests and benchmarks: one coordinator and some nodes, as processes, through the public commands."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.client.client import Client
from common.errors import Unreachable

HANSA = (sys.executable, "-P", "-m", "common.cli")
FEDERATION = "fed"
PATIENCE_S = 120.0


def free_port() -> int:
    """Return a loopback port nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Process:
    """One of our processes: started, killed and started again by pid."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.command, self.log = list(command), log
        self.env = {**os.environ, **(env or {})}
        self._running: subprocess.Popen[bytes] | None = None

    def start(self, failpoint: str = "") -> None:
        with self.log.open("ab") as log:
            env = {**self.env, "HANSA_FAILPOINT": failpoint}
            self._running = subprocess.Popen(self.command, stdout=log, stderr=log, env=env, start_new_session=True)

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    def alive(self) -> bool:
        return self._running is not None and self._running.poll() is None

    def kill(self, signum: int = signal.SIGKILL) -> None:
        if self._running is not None:
            if self._running.poll() is None:
                self._running.send_signal(signum)
            self._running.wait(30)

    def wait(self, timeout: float) -> int:
        assert self._running is not None
        return self._running.wait(timeout)

    def stop(self) -> None:
        try:
            self.kill(signal.SIGTERM)
        except subprocess.TimeoutExpired:
            self.kill()


class Node:
    """One node agent, its directory and its process."""

    def __init__(self, platform: Platform, name: str) -> None:
        self.platform, self.name = platform, name
        self.dir = platform.root / f"node-{name}"
        self.process = Process(
            [*HANSA, "node", "run", "--dir", str(self.dir)], platform.root / f"node-{name}.log", platform.env
        )

    def hansa(self, *args: str) -> str:
        return self.platform.hansa("node", *args, "--dir", str(self.dir))

    def join(self, data: Path | None = None) -> None:
        token = self.platform.admin.tenants.create_join_token(self.name, self.name)
        self.hansa("join", self.platform.url, "--token", token["token"], "--name", self.name)
        if data is not None:
            self.hansa("dataset", "add", "data", str(data))
            self.hansa("dataset", "share", "data", "--federation", FEDERATION)

    def approve(self, digest: str) -> None:
        self.hansa("app", "approve", digest, "--federation", FEDERATION)


class Platform:
    """A coordinator in ``root`` and nodes beside it; every process ends with ``close``."""

    def __init__(self, root: Path, *, env: Mapping[str, str] | None = None, arguments: Sequence[str] = ()) -> None:
        self.root = root
        self.env = {"HANSA_CONTEXT": str(root / "context.json"), **(env or {})}
        self.dir = root / "coordinator"
        self.port, self.link_port = free_port(), free_port()
        self.url = f"https://localhost:{self.port}"
        command = [*HANSA, "coordinator", "serve", "--dir", str(self.dir), "--port", str(self.port)]
        self.coordinator = Process(
            [*command, "--link-port", str(self.link_port), *arguments], root / "coordinator.log", self.env
        )
        self.nodes: dict[str, Node] = {}
        self._clients: dict[str, Client] = {}

    @property
    def admin(self) -> Client:
        """The platform admin's client."""
        if "" not in self._clients:
            self._clients[""] = self.speak((self.dir / "admin.token").read_text().strip())
        return self._clients[""]

    @property
    def client(self) -> Client:
        """The client of the first tenant's admin, who owns the federation and submits the jobs."""
        return self._clients[next(iter(self.nodes))]

    def speak(self, token: str) -> Client:
        """Return a client that uses ``token``."""
        return Client(self.url, token, self.dir / "ca" / "ca.pem")

    def hansa(self, *args: str) -> str:
        done = subprocess.run(
            [*HANSA, *args], env={**os.environ, **self.env}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"hansa {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, failpoint: str = "") -> None:
        """Start the coordinator; return when it answers, or (with a failpoint) may have died already."""
        self.coordinator.start(failpoint)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and self.coordinator.alive():
            try:
                if (self.dir / "admin.token").exists():
                    self.admin.health()
                    return
            except Unreachable:
                pass
            time.sleep(0.05)
        assert failpoint, self.coordinator.log.read_text()[-3000:]

    def add_nodes(self, names: Sequence[str], data: Path | None = None, *, individual: bool = True) -> None:
        """Make a tenant and a joined, not yet running node for each name, and the federation of them all."""
        for name in names:
            self.admin.tenants.create(name)
            self._clients[name] = self.speak(self.admin.tenants.create_token(name, "tenant_admin", name)["token"])
            self.nodes[name] = Node(self, name)
        self.client.federations.create(FEDERATION, list(names), individual_replies=individual)
        for name in names:
            self._clients[name].federations.accept(FEDERATION, name)
        if data is None:
            data = self.root / "data.csv"
            data.write_text("x,y\n1,2\n3,4\n")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda node: node.join(data), self.nodes.values()))

    def approve(self, app: Path) -> str:
        """Upload an app and let every steward approve it; return its digest."""
        digest = str(self.client.apps.upload(app)["app_digest"])
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda node: node.approve(digest), self.nodes.values()))
        return digest

    def start_nodes(self) -> None:
        for node in self.nodes.values():
            node.process.start()
        self.until(lambda: all(node["online"] for node in self.admin.nodes.list()), "nodes online")

    def submit(self, digest: str, *, seed: int = 1, **run_config: Any) -> str:
        config = {key.replace("_", "-"): value for key, value in run_config.items()}
        return str(self.client.jobs.submit(FEDERATION, digest, run_config=config, seed=seed)["id"])

    def finish(self, job: str, timeout: float = PATIENCE_S, *, every: float = 0.05) -> dict[str, Any]:
        """Wait for the job's end, asking ``every`` so many seconds, and return it."""
        self.until(lambda: self._ended(job), f"end of {job}", timeout, every=every)
        return dict(self.client.jobs.get(job))

    def _ended(self, job: str) -> bool:
        try:
            return self.client.jobs.get(job)["state"] in {"succeeded", "failed", "cancelled"}
        except Unreachable:
            return False

    def until(self, true: Any, what: str, timeout: float = PATIENCE_S, *, every: float = 0.05) -> None:
        deadline = time.monotonic() + timeout
        while not true():
            assert time.monotonic() < deadline, f"no {what} in {timeout} s\n{self.tail()}"
            time.sleep(every)

    def tail(self) -> str:
        """Return the ends of all logs, for a failure's message."""
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in sorted(self.root.glob("*.log"))
        )

    def close(self) -> None:
        processes = [*(node.process for node in self.nodes.values()), self.coordinator]
        with ThreadPoolExecutor(len(processes)) as pool:
            list(pool.map(Process.stop, processes))
        for client in self._clients.values():
            client.close()


@contextmanager
def platform(root: Path, nodes: Sequence[str] = (), **options: Any) -> Iterator[Platform]:
    """Run a coordinator with ``nodes`` joined (not yet started) for the length of a ``with``."""
    whole = Platform(root, **options)
    try:
        whole.start()
        if nodes:
            whole.add_nodes(nodes)
        yield whole
    finally:
        whole.close()


def pretty(job: Mapping[str, Any]) -> str:
    """Return a job for a failure's message."""
    return json.dumps(dict(job), indent=1, default=str)[:3000]
