"""A whole Flower app in one process: our Grid, N virtual nodes, no network, no Ray.

``python __main__.py simulate APP_DIR --nodes N`` prints JSON lines on stdout: ``exchange``, ``client_failed``,
``evaluated``, ``round_done`` as they come, and last ``finished`` or ``failed``.  What the app prints goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from flwr.app import ArrayRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from common.child import shim
from common.child.client import APP_RAISED
from common.child.grid import Answer, Exchange, Grid
from common.child.loader import load, read_app, seed_all
from common.child.mean import Mean
from common.child.parent import Stop, failure
from common.child.ray_engine import run_ray
from common.child.records import encode
from common.child.server import Progress

FIRST_NODE = 1000  # ids of virtual nodes; never the server's own
Tell = Callable[[dict[str, Any]], None]


class VirtualNodes:
    """A ``Carrier`` whose nodes are contexts in this process.

    Args:
        app: The ClientApp.
        nodes: How many.
        facts: run_id, run_config, seed and the node_config that all nodes share.
        tell: Takes progress.
    """

    def __init__(self, app: ClientApp, nodes: int, facts: dict[str, Any], tell: Tell) -> None:
        self._app = app
        self._tell = tell
        self._seed = facts["seed"]
        self._contexts = {
            FIRST_NODE + i: Context(
                facts["run_id"],
                FIRST_NODE + i,
                {**facts["node_config"], "partition-id": i, "num-partitions": nodes},
                RecordDict(),
                dict(facts["run_config"]),
            )
            for i in range(nodes)
        }
        self._pushed: dict[str, Answer] = {}
        self._sequence = 0
        self.served = 0

    def nodes(self) -> list[int]:
        """Return the virtual nodes' ids."""
        return list(self._contexts)

    def exchange(self, exchange: Exchange) -> list[Answer]:
        """Run the ClientApp for each message and fold where the strategy is linear."""
        began = time.perf_counter()
        self._sequence += 1
        state = random.getstate(), np.random.get_state()  # noqa: NPY002 the server's own, which its clients share here
        answers = self._folded(exchange) if exchange.verdict.fold else self._each(exchange)
        random.setstate(state[0])
        np.random.set_state(state[1])  # noqa: NPY002
        self.served += len(exchange.messages)
        self._tell(
            {
                "op": "exchange",
                "round": exchange.round,
                "type": exchange.messages[0].metadata.message_type,
                "nodes": len(exchange.messages),
                "fold": exchange.verdict.fold,
                "why": exchange.verdict.why,
                "seconds": round(time.perf_counter() - began, 6),
            }
        )
        return answers

    def push(self, exchange: Exchange) -> list[str]:
        """Run the messages at once; their replies wait to be pulled."""
        answers = self.exchange(exchange)
        ids = [f"p{self._sequence}.{slot}" for slot in range(len(answers))]
        for message_id, answer in zip(ids, answers, strict=True):
            self._pushed[message_id] = Answer(message_id, answer.src, answer.content, answer.error)
        return ids

    def pull(self, ids: list[str]) -> list[Answer]:
        """Return the replies of earlier pushes."""
        return [self._pushed.pop(message_id) for message_id in ids if message_id in self._pushed]

    def _each(self, exchange: Exchange) -> list[Answer]:
        return [self._run(slot, exchange) for slot in range(len(exchange.messages))]

    def _folded(self, exchange: Exchange) -> list[Answer]:
        mean = Mean(arrays=exchange.messages[0].metadata.message_type.startswith("train"))
        for slot in range(len(exchange.messages)):
            answer = self._run(slot, exchange)
            why = mean.add(answer.content) if answer.content is not None else ""
            if why:
                self._tell({"op": "update_dropped", "node": answer.src, "round": exchange.round, "why": why})
        if not mean.total:
            raise Stop("too_few_nodes", "no node's reply could be used; the reasons are above")
        return [Answer(0, exchange.messages[0].metadata.dst_node_id, mean.content(), None)]

    def _run(self, slot: int, exchange: Exchange) -> Answer:
        metadata = exchange.messages[slot].metadata
        node = metadata.dst_node_id
        context = self._contexts.get(node)
        if context is None:
            return Answer(slot, node, None, Error(5, f"there is no node {node}"))
        message = shim.instruction(
            shim.shell(exchange.contents[slot]),
            run_id=context.run_id,
            message_id=metadata.message_id,
            dst=node,
            kind=metadata.message_type,
            group_id=metadata.group_id,
            ttl=metadata.ttl,
        )
        seed_all(self._seed + 7919 * self._sequence + node)
        try:
            reply = self._app(message, context)
            if not isinstance(reply, Message):
                raise Stop("bad_reply", f"the ClientApp must return a Message, not {type(reply).__name__}")
        except (Exception, SystemExit, Stop) as error:  # noqa: BLE001 tenant code may raise anything
            facts = failure(error)
            self._tell({**facts, "op": "client_failed", "node": node, "round": exchange.round})
            return Answer(slot, node, None, Error(APP_RAISED, facts["message"]))
        if reply.has_error():
            return Answer(slot, node, None, reply.error)
        return Answer(slot, node, reply.content, None)


def main(argv: list[str]) -> int:
    """Simulate the app in ``argv``; returns the exit code."""
    options = _parser().parse_args(argv)
    # Our JSON keeps the real stdout; whatever the app prints, in Python or below it, goes to stderr.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="hansa-simulate-", ignore_cleanup_errors=True) as folder:
        os.chdir(folder)  # as in a job: what the app saves by a bare name is gone with it, and nobody's folder fills up
        try:
            return _simulate(options, out)
        finally:
            os.chdir("/")


def _simulate(options: argparse.Namespace, out: TextIO) -> int:

    def tell(frame: dict[str, Any]) -> None:
        out.write(json.dumps({"event": frame.pop("op"), **frame}) + "\n")

    try:
        shim.install(in_files=False)
        server, client, config = read_app(options.app_dir)
        config |= json.loads(options.run_config)
        if options.engine == "ray":
            summary = run_ray(options.app_dir, server, client, config, options.nodes, options.seed)
        else:
            summary = _inline(options, server, client, config, tell)
        arrays = summary.pop("arrays")
        saved = options.result is not None and arrays is not None
        if saved:
            _save(options.result, arrays)
        tell({"op": "finished", **summary, "result": str(options.result) if saved else None})
    except BaseException as error:  # noqa: BLE001 the outermost guard
        frame = failure(error)
        sys.stderr.write(frame["traceback"])
        tell(frame)
        return 1
    return 0


def _inline(
    options: argparse.Namespace, server: str, client: str, config: dict[str, Any], tell: Tell
) -> dict[str, Any]:
    run_id = 1 + options.seed
    shim.identify(run_id, shim.SERVER_NODE)
    progress = Progress(tell)
    progress.watch()
    seed_all(options.seed)
    app_dir = str(options.app_dir)
    server_app, client_app = load(app_dir, server), load(app_dir, client)
    seed_all(options.seed)
    facts = {
        "run_id": run_id,
        "run_config": config,
        "seed": options.seed,
        "node_config": json.loads(options.node_config),
    }
    nodes = VirtualNodes(client_app, options.nodes, facts, tell)
    grid = Grid(nodes, run_id, options.aggregation, progress.note)
    context = Context(run_id, shim.SERVER_NODE, {}, RecordDict(), config)
    began = time.perf_counter()
    server_app(grid, context)
    if grid.stopped is not None:
        raise grid.stopped
    progress.last_round()
    seconds = time.perf_counter() - began
    return {
        "arrays": progress.arrays(context, grid),
        "metrics": progress.metrics(),
        "seconds": round(seconds, 6),
        "clients": nodes.served,
        "clients_per_s": round(nodes.served / seconds, 1) if seconds else 0.0,
    }


def _save(path: Path, arrays: ArrayRecord) -> None:
    fd, size = encode(RecordDict({"arrays": arrays}))
    try:
        path.write_bytes(os.pread(fd, size, 0))
    finally:
        os.close(fd)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="simulate")
    parser.add_argument("app_dir", type=lambda text: Path(text).resolve())
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--run-config", default="{}", help="JSON object over the app's own configuration")
    parser.add_argument("--node-config", default="{}", help="JSON object that every node has")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--aggregation", choices=("auto", "mean"), default="auto")
    parser.add_argument("--engine", choices=("inline", "ray"), default="inline")
    said = "write the result's arrays here as safetensors"
    parser.add_argument("--result", type=lambda text: Path(text).resolve(), default=None, help=said)
    return parser
