"""Leases of GPUs at a real agent with real sandboxed apps; only the driver's library is a stand-in."""

from __future__ import annotations

from pathlib import Path

import pytest

from client_node.adapters.lease_log import SqliteLeaseLog
from client_node.adapters.nvidia_files import Files
from client_node.adapters.nvml import Nvml
from client_node.adapters.state import SqliteState
from client_node.ports.leases import LeaseEntry
from common.sandbox import available
from common.wire import hansa_node_pb2 as pb
from tests.gpus import LOST, FakeNvml, Gpu
from tests.integration.node_stage import JOB, S, Stage, until

pytestmark = pytest.mark.integration
OTHER = "job_fedcba9876543210"
HALF = [pb.Slice(device="GPU-b", milli=500)]


@pytest.fixture
def gpus() -> tuple[Gpu, Gpu]:
    return Gpu("GPU-a", reserved=0), Gpu("GPU-b", reserved=0, minor=1)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: tuple[Gpu, Gpu]) -> Stage:
    FakeNvml(*gpus).install(monkeypatch)
    stage = Stage(tmp_path)
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    driver = stage.driver = Nvml(Files(tmp_path))
    driver._sees_pids = True
    stage.consent()
    return stage


def entries(stage: Stage) -> tuple[LeaseEntry, ...]:
    state = SqliteState(stage.place.database)
    try:
        return SqliteLeaseLog(state).entries()
    finally:
        state.close()


@pytest.mark.skipif(not available()[0], reason="no bubblewrap here")
async def test_an_app_sees_the_device_of_its_lease_and_no_other(stage: Stage, tmp_path: Path) -> None:
    names = ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm")
    look = {name: str(tmp_path / "dev" / name) for name in names}
    log = stage.place.log / f"{JOB}.log"
    async with stage.running() as agent:
        hello = await agent.agent.hello()
        assert [(d.uuid, d.kind, d.memory_mib, d.used_mib) for d in hello.report.devices] == [
            ("GPU-a", "cuda", 80_000, 0), ("GPU-b", "cuda", 80_000, 0),
        ]  # fmt: skip
        assert list(hello.report.enforcement) == ["visible", "fraction", "files", "watchdog", "exclusive"]

        await stage.uploaded(await stage.offer(0, do="devices", look=" ".join(look.values())))
        assert "sees '' None\nfiles []\n" in log.read_text()

        task = await stage.offer(1, slices=HALF, do="devices", look=" ".join(look.values()))
        await stage.uploaded(task)
        given = [look[name] for name in names[1:]]
        assert f"sees 'GPU-b' PCI_BUS_ID\nfiles {given}\n" in log.read_text()
        ready = await stage.link.status(task, S.READY)
        assert list(ready.enforcement) == ["visible", "files", "watchdog"]
        assert ready.held_s > 0
    first, second = entries(stage)
    assert (first.lease.slices, first.lease.cpu_milli, first.outcome) == ((), 1000, "done")
    assert (second.lease.id, second.lease.tenant, second.outcome) == ("lease-1", "acme", "done")
    assert [(part.device, part.milli, part.mib) for part in second.lease.slices] == [("GPU-b", 500, 40_000)]
    assert second.held_s == pytest.approx(ready.held_s)


async def test_a_lease_that_passes_its_slice_is_ended_and_one_that_the_node_cannot_hold_is_denied(
    stage: Stage, gpus: tuple[Gpu, Gpu]
) -> None:
    stage.set("gpu_poll_ms", "50")
    async with stage.running() as agent:
        task = await stage.offer(0, slices=HALF, do="hang")
        await stage.link.status(task, S.RUNNING)
        for slices, code in (
            ([pb.Slice(device="GPU-b", milli=501)], "device_full"),
            ([pb.Slice(device="GPU-x", milli=1000)], "no_device"),
        ):
            denied = await stage.link.status(await stage.offer(1, slices=slices), S.DENIED)
            assert [denial.code for denial in denied.denials] == [code]
            stage.link.sent.clear()
        await until(lambda: agent._jobs.opened()[0].app.pid is not None)
        gpus[1].processes = {agent._jobs.opened()[0].app.pid or 0: 40_001}
        failed = await stage.link.status(task, S.FAILED)
        assert (failed.reason, failed.peak_mib) == ("gpu_memory", 40_001)
        assert "its slice is 40000 MiB" in failed.message
        gpus[1].processes = {}
        stage.link.sent.clear()
        await stage.uploaded(await stage.offer(2, slices=HALF))
        stage.set("withheld_devices", "GPU-b")
        held = await stage.offer(3, slices=HALF, do="hang")
        await stage.link.status(held, S.RUNNING, S.DENIED)
        agent.poke()
        assert (await stage.link.status(held, S.DENIED)).reason == "no_device"
        stage.set("withheld_devices", "")
        agent.poke()
        stage.link.sent.clear()
        lost = await stage.offer(4, slices=HALF, do="hang")
        await stage.link.status(lost, S.RUNNING)
        gpus[1].faults["*"] = LOST
        assert (await stage.link.status(lost, S.FAILED)).reason == "gpu_lost"
        report = await stage.link.heard(lambda e: e.report if e.HasField("report") else None)
        assert [device.uuid for device in report.devices] == ["GPU-a"]
    assert [entry.outcome for entry in entries(stage)] == ["gpu_memory", "done", "cancelled", "gpu_lost"]


async def test_an_app_stays_warm_on_its_device_until_somebody_else_is_given_it(stage: Stage) -> None:
    stage.set("gpu_renew_ms", "60000")
    async with stage.running() as agent:
        await stage.uploaded(await stage.offer(0, slices=HALF))
        mine = agent._jobs.opened()[0].app
        first = mine.pid
        await stage.uploaded(await stage.offer(1, slices=HALF))
        assert first is not None
        assert mine.pid == first
        stage.link.sent.clear()
        await stage.prepare(job=OTHER)
        await stage.uploaded(await stage.offer(0, job=OTHER, slices=[pb.Slice(device="GPU-b", milli=1000)]))
        assert mine.pid is None  # it was in the way of a whole device
        _, metrics = await stage.uploaded(await stage.offer(2))
        assert metrics["metrics"]["runs"] == 3  # its state came along
    assert {entry.outcome for entry in entries(stage)} == {"done"}
