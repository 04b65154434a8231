"""A parent for tests: plays coordinator and nodes at once around real child processes."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load

from common.sandbox import Child, ChildSpec, Limits, SandboxMode, launch

APPS = Path(__file__).parent
PYTHON = sys.executable
TIMEOUT = 90.0


@dataclass
class Played:
    """What a job did."""

    frames: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    dtypes: list[dict[str, str]] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)
    states: dict[int, tuple[int, int]] = field(default_factory=dict)

    def of(self, op: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["op"] == op]


def start(app: Path, role: str, component: str, **facts: Any) -> dict[str, Any]:
    return {
        "op": "start", "role": role, "app_dir": str(app), "component": component, "run_id": 77, "node_id": 1,
        "node_config": {}, "run_config": {}, "seed": 5, "aggregation": "auto", "individual": True, **facts,
    }  # fmt: skip


def message(kind: str, size: int, **facts: Any) -> dict[str, Any]:
    return {
        "op": "message", "id": "1", "type": kind, "src": 1, "group_id": "", "ttl": 60.0, "seed": 3, "object": size,
        "state": None, **facts,
    }  # fmt: skip


async def begin(
    app: Path,
    role: str,
    component: str,
    mode: SandboxMode,
    *,
    limits: Limits | None = None,
    log: Path | None = None,
    **facts,
) -> Child:
    child = await launch(ChildSpec(role, PYTHON, app, limits=limits or Limits(), log_path=log), mode)
    await child.send(start(app, role, component, **facts))
    return child


def components(app: Path) -> tuple[str, str, dict[str, Any]]:
    table = tomllib.loads((app / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    return table["components"]["serverapp"], table["components"]["clientapp"], table.get("config", {})


async def play(app: Path, nodes: int, mode: SandboxMode, log: Path, **config: Any) -> Played:
    """Run a whole job with one reply for each node, whatever the child says of folding."""
    server, client, own = components(app)
    played = Played()
    async with AsyncExitStack() as stack:

        async def child(role: str, component: str, **facts: Any) -> Child:
            started = await begin(
                app,
                role,
                component,
                mode,
                log=log / f"{role}{facts['node_id']}.log",
                run_config={**own, **config},
                **facts,
            )
            stack.push_async_callback(started.end)
            ready, _ = await started.receive(TIMEOUT)
            assert ready == {"op": "ready"}, ready
            return started

        clients = {
            100 + i: await child(
                "client", client, node_id=100 + i, node_config={"partition-id": i, "num-partitions": nodes}
            )
            for i in range(nodes)
        }
        await _serve(await child("server", server, node_id=1), clients, played)
    return played


async def _serve(server: Child, clients: dict[int, Child], played: Played) -> None:
    kept: dict[str, dict[str, Any]] = {}
    while True:
        frame, fds = await server.receive(TIMEOUT)
        played.frames.append(frame)
        if frame["op"] == "nodes":
            await server.send({"op": "nodes", "ids": list(clients)})
        elif frame["op"] in {"exchange", "push"}:
            played.dtypes += [{name: entry["dtype"] for name, entry in table(fd).items()} for fd in fds]
            replies = [await _ask(clients, message, frame, fds, played) for message in frame["messages"]]
            if frame["op"] == "exchange":
                await _reply(server, replies)
            else:
                ids = [f"m{len(kept) + i}" for i in range(len(replies))]
                kept |= {key: {**reply, "id": key} for key, reply in zip(ids, replies, strict=True)}
                await server.send({"op": "pushed", "ids": ids})
        elif frame["op"] == "pull":
            await _reply(server, [kept.pop(key) for key in frame["ids"] if key in kept])
        for fd in fds if frame["op"] != "finished" else []:
            os.close(fd)
        if frame["op"] in {"finished", "failed"}:
            played.last = frame
            if fds:
                played.arrays = tensors(fds[0])
                os.close(fds[0])
            return


async def _ask(clients, sent, frame, fds, played) -> dict[str, Any]:
    client = clients[sent["dst"]]
    ask = message(sent["type"], frame["objects"][sent["object"]], group_id=sent["group_id"])
    await client.send(ask, [fds[sent["object"]]])
    got, out = await client.receive(TIMEOUT)
    played.frames.append(got)
    if got["op"] == "error":
        return {"slot": sent["slot"], "src": sent["dst"], "fd": None, "error": [got["code"], got["message"]]}
    for fd in out[1:]:
        os.close(fd)
    return {"slot": sent["slot"], "src": sent["dst"], "fd": out[0], "error": None}


async def _reply(server: Child, replies: list[dict[str, Any]]) -> None:
    fds = [reply["fd"] for reply in replies if reply["fd"] is not None]
    for reply in replies:
        fd = reply.pop("fd")
        reply["object"] = None if fd is None else fds.index(fd)
    sizes = [os.fstat(fd).st_size for fd in fds]
    await server.send({"op": "replies", "replies": replies, "objects": sizes}, fds)
    for fd in fds:
        os.close(fd)


def table(fd: int) -> dict[str, Any]:
    """Read an object's table with nothing of ours."""
    size = int.from_bytes(os.pread(fd, 8, 0), "little")
    found = json.loads(os.pread(fd, size, 8))
    found.pop("__metadata__")
    return found


def tensors(fd: int) -> dict[str, np.ndarray]:
    """Read an object's tensors with the safetensors library."""
    return load(os.pread(fd, os.fstat(fd).st_size, 0))
