"""A real GPU: torch trains in the sandbox on the device of its lease, within its slice, and on nothing else."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client_node.adapters.nvml import Nvml
from client_node.guard.leases import Device
from common.wire import hansa_node_pb2 as pb
from tests.integration.node_stage import JOB, PYPROJECT, S, Stage

if not Nvml().devices() or importlib.util.find_spec("torch") is None:
    pytest.skip("needs an NVIDIA GPU and torch", allow_module_level=True)

pytestmark = [pytest.mark.gpu, pytest.mark.integration, pytest.mark.slow]
MIB = 1 << 20
ROOMY = PYPROJECT + "\n[tool.hansa.resources]\nmemory_mib = 16384\n"  # CUDA's libraries take some of the host's, too
CODE = """
import glob, json, os, time
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

client = ClientApp()
server = ServerApp()


def loss_after_training(torch):
    torch.manual_seed(1)
    x = torch.randn(256, 32, device="cuda")
    y = x.sum(1, keepdim=True)
    model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)).cuda()
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(200):
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimiser.step()
    return float(loss)


@client.train()
def train(message: Message, context: Context) -> Message:
    import torch

    config = message.content["config"]
    facts = {"available": torch.cuda.is_available(), "count": torch.cuda.device_count(),
             "files": sorted(glob.glob("/dev/nvidia[0-9]*"))}
    if facts["available"]:
        properties = torch.cuda.get_device_properties(0)
        facts["uuid"], facts["loss"] = str(properties.uuid), loss_after_training(torch)
        facts["total"] = torch.cuda.mem_get_info(0)[1]
    if config["do"] == "too much":
        try:
            kept = torch.empty(config["mib"] << 20, dtype=torch.uint8, device="cuda")
            facts["oom"] = False
        except torch.cuda.OutOfMemoryError:
            facts["oom"] = True
    if config["do"] == "lift":
        torch.cuda.set_per_process_memory_fraction(1.0)
        kept = torch.zeros(config["mib"] << 20, dtype=torch.uint8, device="cuda")
        torch.cuda.synchronize()
        print("allocated", flush=True)
        time.sleep(600)
    print("FACTS", json.dumps(facts), flush=True)
    metrics = MetricRecord({"num-examples": 1})
    return Message(content=RecordDict({"arrays": ArrayRecord(), "metrics": metrics}), reply_to=message)
"""


@pytest.fixture
def device() -> Iterator[Device]:
    driver = Nvml()
    yield driver.devices()[0]
    driver.close()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path, CODE, ROOMY)
    stage.set("gpu_poll_ms", "50")
    stage.consent()
    return stage


def facts(stage: Stage) -> dict[str, Any]:
    lines = (stage.place.log / f"{JOB}.log").read_text().splitlines()
    return dict(json.loads([line for line in lines if line.startswith("FACTS ")][-1].removeprefix("FACTS ")))


async def test_torch_trains_in_the_sandbox_on_the_leased_device_only(stage: Stage, device: Device) -> None:
    async with stage.running():
        whole = [pb.Slice(device=device.uuid, milli=1000)]
        task = await stage.offer(0, slices=whole, do="train", lease=300.0)
        await stage.uploaded(task)
        seen = facts(stage)
        assert (seen["available"], seen["count"]) == (True, 1)
        assert seen["loss"] < 1.0
        assert seen["total"] / MIB == pytest.approx(device.memory_mib, rel=0.03)
        if not device.parent:
            assert device.uuid == f"GPU-{seen['uuid']}"
        ready = await stage.link.status(task, S.READY)
        assert "exclusive" in ready.enforcement
        if "files" in ready.enforcement:
            assert seen["files"] == [path for path in device.files if path.rstrip("0123456789") == "/dev/nvidia"]
        await stage.uploaded(await stage.offer(1, do="train", lease=300.0))
        without = facts(stage)
        assert (without["available"], without["count"]) == (False, 0)


async def test_torch_is_bounded_and_what_lifts_the_bound_is_ended_by_the_watchdog(stage: Stage, device: Device) -> None:
    slices = [pb.Slice(device=device.uuid, milli=1000, mib=4096)]
    async with stage.running():
        task = await stage.offer(0, slices=slices, do="too much", mib=5000, lease=300.0)
        await stage.uploaded(task)
        assert facts(stage)["oom"] is True
        ready = await stage.link.status(task, S.READY)
        assert "fraction" in ready.enforcement
        if device.measured:
            assert 0 < ready.peak_mib <= 4096
        lifted = await stage.offer(1, slices=slices, do="lift", mib=5000, lease=300.0)
        failed = await stage.link.status(lifted, S.FAILED)
        assert failed.reason == "gpu_memory"
        assert failed.peak_mib > 4096
