"""A node's leases over a real log, a library that is none, and a clock in hand."""

from __future__ import annotations

import asyncio
from pathlib import Path

from client_node.adapters.lease_log import SqliteLeaseLog
from client_node.adapters.nvml import Nvml
from client_node.adapters.state import SqliteState
from client_node.guard.consent import JobRequest
from client_node.guard.leases import Lease, Slice
from client_node.services.devices import Devices
from client_node.services.leases import Leases
from client_node.services.offers import PreparedJob
from client_node.settings import NodeSettings
from common.clock import ManualClock
from common.jobspec import parse
from common.wire import hansa_node_pb2 as pb
from tests.gpus import Gpu

APP = "a" * 64
REQUEST = JobRequest("job_1", "hearts", "acme", "ana", APP, "heart", individual=False)
SPEC = parse('[project]\nname = "x"\n[tool.flwr.app.components]\nserverapp = "a:s"\nclientapp = "a:c"\n')
JOB = PreparedJob(REQUEST, SPEC, pb.Prepare())
HALF = Lease("l1", "job_1/0/0", "job_1", "acme", (Slice("GPU-a", 500, 40_000),), 2000, 4096)


class Node:
    """The services under test over a real log, a library that is none, and a clock in hand."""

    def __init__(self, path: Path, *gpus: Gpu) -> None:
        self.now = 0
        self.gpus = {gpu.uuid: gpu for gpu in gpus}
        self.state = SqliteState(path)
        self.clock = ManualClock()
        self.settings = NodeSettings()
        self.driver = Nvml()
        self.driver._sees_pids = True
        self.devices = Devices(self.driver, lambda: self.settings)
        self.devices.scan()
        self.log = SqliteLeaseLog(self.state)
        self.leases = Leases(self.devices, self.log, lambda: self.settings, self.clock)

    async def pause(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await asyncio.sleep(0)
