"""A node directory with an app to approve, and its agent over a scripted link."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from client_node.adapters.nvml import Nvml
from client_node.adapters.state import SqliteState
from client_node.app import LiveSettings, NodeAgent
from client_node.ports.devices import Driver
from client_node.ports.state import Approval
from client_node.services.agent import NoServing
from client_node.services.datasets import describe
from client_node.services.node_dir import NodeDir
from client_node.settings import NodeSettings, change, load, save
from common.bundle import pack, read_bundle
from common.clock import SystemClock
from common.jobspec import parse
from common.sandbox import available
from common.wire import hansa_node_pb2 as pb
from tests.integration.scripted_link import ScriptedLink, instruction, read_object

S = pb.TaskStatus
JOB = "job_0123456789abcdef"
FED = "hearts"

PYPROJECT = """
[project]
name = "counter"
[tool.flwr.app.components]
serverapp = "counter:server"
clientapp = "counter:client"
[tool.flwr.app.config]
factor = 2.0
"""
CODE = """
import os, sys, time
import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

client = ClientApp()
server = ServerApp()

@client.train()
def train(message: Message, context: Context) -> Message:
    do = message.content["config"].get("do", "train")
    print("doing", do, flush=True)
    if do == "devices":
        print("sees", repr(os.environ["CUDA_VISIBLE_DEVICES"]), os.environ.get("CUDA_DEVICE_ORDER"), flush=True)
        print("files", [path for path in message.content["config"]["look"].split() if os.path.exists(path)], flush=True)
    if do == "raise":
        raise ValueError("row 7 is odd")
    if do == "exit":
        sys.exit(3)
    if do == "hang":
        time.sleep(600)
    if do == "die-once" and "tried" not in globals() and not context.state.get("seen"):
        os.kill(os.getpid(), 9)
    runs = int(context.state["count"]["runs"]) + 1 if "count" in context.state else 1
    context.state["count"] = MetricRecord({"runs": runs})
    if do == "forget":
        del context.state["count"]
    with open(context.node_config["data.rows"]) as file:
        rows = len(file.read().splitlines()) - 1
    w = message.content["arrays"]["w"].numpy() * context.run_config["factor"]
    arrays = ArrayRecord({"w": __import__("flwr").app.Array(w.astype(np.float32))})
    metrics = MetricRecord({"num-examples": rows, "runs": runs, "pid": os.getpid(),
                            "partition": context.node_config["partition-id"]})
    return Message(content=RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
"""


class Stage:
    """One node directory, with an app to approve and a link to script."""

    def __init__(self, root: Path, code: str = CODE, pyproject: str = PYPROJECT) -> None:
        self.pyproject = pyproject
        self.place = NodeDir(root / "node")
        self.place.prepare()
        who = {
            "node": "node_1", "tenant": "acme", "name": "n1", "coordinator": "https://localhost:1",
            "link": "localhost:2", "ca_sha256": "0" * 64, "manifest_keys": {},
        }  # fmt: skip
        self.place.identity_file.write_text(json.dumps(who))
        self.link = ScriptedLink()
        self.driver: Driver = Nvml()  # of this machine, most likely without devices
        app = root / "app"
        app.mkdir()
        (app / "pyproject.toml").write_text(pyproject)
        (app / "counter.py").write_text(code)
        self.archive = pack(app)
        self.digest = read_bundle(self.archive).digest
        self.data = root / "rows.csv"
        self.data.write_text("a,b\n1,2\n3,4\n5,6\n")
        if not available()[0]:
            self.set("sandbox", "none")

    def set(self, key: str, value: str) -> None:
        save(self.place.root, change(load(self.place.root), key, value))

    def consent(self) -> None:
        state = SqliteState(self.place.database)
        limit = NodeSettings().dataset_bytes
        state.put_dataset(describe("rows", self.data, node_dir=self.place.root, now=1.0, max_bytes=limit), replace=True)
        state.share("rows", FED)
        state.approve(Approval(FED, self.digest, 1.0))
        state.close()

    @asynccontextmanager
    async def running(self, prepare: bool = True) -> AsyncIterator[NodeAgent]:
        """Run the agent until the end of the ``with``; its memory is opened and closed with it."""
        state = SqliteState(self.place.database)
        agent = NodeAgent(
            self.place,
            state,
            self.link,
            SystemClock(),
            NoServing("not in this test"),
            LiveSettings(self.place),
            self.driver,
        )
        self.link.sent.clear()
        self.link.started.clear()
        task = asyncio.create_task(agent.run())
        try:
            await self.link.started.wait()
            if prepare:
                await self.prepare()
            yield agent
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(task, 60)
            state.close()

    async def prepare(self, **changes: object) -> pb.Prepared:
        spec = parse(self.pyproject)
        values: dict[str, object] = {
            "job": JOB, "federation": FED, "owner_tenant": "acme", "submitted_by": "ana", "app_digest": self.digest,
            "bundle": self.link.put(self.archive), "spec": spec.to_json(), "app_name": "counter",
        }  # fmt: skip
        await self.link.tell(prepare=pb.Prepare(**(values | changes)))
        return await self.link.heard(lambda e: e.prepared if e.HasField("prepared") else None)

    async def offer(
        self,
        seq: int,
        *,
        job: str = JOB,
        lease: float = 60.0,
        fold: bool = True,
        slices: Sequence[pb.Slice] = (),
        **config: object,
    ) -> str:
        content = self.link.put(instruction([1.0, float(seq)], **config))
        task = f"{job}/{seq}/0"
        await self.link.tell(
            task=pb.TaskOffer(
                task=task, job=job, seq=seq, slot=0, message_type="train", content=content, run_id=11,
                flower_node_id=22, partition_id=1, num_partitions=4, group_id=str(seq), message_id=f"m{seq}",
                lease_s=lease, seed=5, max_weight=1e9, fold=fold, ttl_s=lease, lease=f"lease-{seq}", tenant="acme",
                slices=slices,
            )
        )  # fmt: skip
        return task

    async def uploaded(self, task: str) -> tuple[dict[str, list[float]], dict[str, dict[str, object]]]:
        async with asyncio.timeout(60):
            while task not in self.link.uploads:
                failed = [e.task for e in self.link.sent if e.HasField("task") and e.task.state in {S.FAILED, S.DENIED}]
                assert not failed, failed
                await asyncio.sleep(0.005)
        return read_object(self.link.uploads[task])


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.005)
