"""A coordinator's half of publishing and deploying: real store, blobs and children, and wires that only keep."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np

from common.clock import ManualClock
from common.crypto.keys import key_id, new_ed25519, public_bytes
from common.errors import NotFound
from common.ids import AppDigest, Digest, FederationId, JobId, NodeId, TenantId
from common.jobspec import Export, JobSpec
from common.manifest import MAX_MANIFEST, verify
from common.sandbox import Limits, SandboxMode, available
from common.tensors.content import build_header
from common.wire import hansa_node_pb2 as pb
from coordinator.adapters.blobs import make_blobs
from coordinator.adapters.sql import make_store
from coordinator.domain.jobs import Job, JobState, RosterEntry
from coordinator.domain.nodes import Node, NodeStatus
from coordinator.domain.quotas import Allowance
from coordinator.domain.tenancy import PLATFORM, Acceptance, Federation, Principal, Role, Tenant
from coordinator.services.allowances import Allowances
from coordinator.services.booked import BookedBlobs
from coordinator.services.deploy import Deployments
from coordinator.services.export import SandboxSettings
from coordinator.services.publish import Publisher

MODE = SandboxMode.BWRAP if available()[0] else SandboxMode.NONE
ALPHA, BETA, FED = TenantId("alpha"), TenantId("beta"), FederationId("fed")
HOSPITAL, CLINIC, STRANGER = NodeId("node_hospital"), NodeId("node_clinic"), NodeId("node_stranger")
ADMIN = Principal("hansa", "ada", frozenset({ALPHA}), frozenset({Role.TENANT_ADMIN}))

FACTORY = """
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

def graph(arrays):
    w, b = arrays["weight"].astype(np.float32), arrays["bias"].astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    made = helper.make_graph(nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", w.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", w.shape[1]])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

def raises(arrays):
    raise RuntimeError("no graph today")

def custom(arrays):
    made = graph(arrays)
    made.graph.node[0].domain = "evil"
    return made
"""


class Wires:
    """Keeps what was sent to each node, in order."""

    def __init__(self) -> None:
        self.sent: list[tuple[NodeId, pb.CoordinatorEvent]] = []

    def send(self, node: NodeId, event: pb.CoordinatorEvent) -> bool:
        self.sent.append((node, event))
        return True

    def connected(self) -> frozenset[NodeId]:
        return frozenset()

    def disconnect(self, node: NodeId, code: str, message: str) -> None:
        raise AssertionError("nothing here ends a connection")


class World:
    """A coordinator's half: store, blobs, publisher, deployments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.store = make_store(f"sqlite:///{folder / 'coordinator.sqlite'}")
        allowances = Allowances(self.store, self.clock, Allowance(PLATFORM, 1, 1, 2**40), lambda _: 0)
        blobs = make_blobs(str(folder / "blobs"), cache_dir=folder / "cache")
        self.blobs = BookedBlobs(blobs, self.store, allowances.check_stored)
        self.key = new_ed25519()
        self.wires = Wires()
        sandbox = SandboxSettings(MODE, {"default": sys.executable}, folder / "jobs", Limits(memory_mib=2048), 60)
        self.logged: list[str] = []
        self.publisher = Publisher(
            self.store, self.blobs, self.key, sandbox, self.clock, lambda entry: self.logged.append(entry.event)
        )
        self.deployments = Deployments(self.store, self.blobs, self.wires, self.clock)

    @property
    def keys(self) -> dict[str, bytes]:
        public = public_bytes(self.key)
        return {key_id(public): public}

    async def settle(self) -> None:
        await self.store.acquire_epoch()
        federation = Federation(FED, ALPHA, "", False, 0.0, dict.fromkeys((ALPHA, BETA), Acceptance.ACCEPTED))

        def fill(tx) -> None:
            for tenant in (ALPHA, BETA, TenantId("gamma")):
                tx.tenants.add(Tenant(tenant, tenant, 0.0))
            tx.tenants.put_federation(federation)
            for node, tenant in ((HOSPITAL, ALPHA), (CLINIC, BETA), (STRANGER, TenantId("gamma"))):
                name = node.removeprefix("node_")
                tx.nodes.put(Node(node, tenant, name, NodeStatus.ACTIVE, 1, name * 4, 1e12, 0.0))

        await self.store.write(fill)

    async def job(self, name: str = "job_1", *, factory: str = "export_it:graph", weights: str = "fp16") -> Job:
        app = self.folder / "jobs" / name / "app"
        app.mkdir(parents=True)
        (app / "export_it.py").write_text(FACTORY)
        export = Export(factory, {"x": ["batch", 8]}, weights) if factory else None
        spec = JobSpec("risk", "a:b", "a:c", {}, export=export)
        roster = (RosterEntry(HOSPITAL, ALPHA, "hospital", 1, 0), RosterEntry(CLINIC, BETA, "clinic", 2, 1))
        job = Job(
            JobId(name), ALPHA, FED, "ada", AppDigest("a" * 64), Digest("b" * 64), spec, 1, 2, JobState.PUBLISHING, "",
            "", 0.0, roster=roster,
        )  # fmt: skip
        await self.store.write(lambda tx: tx.jobs.put(job))
        return job

    def result(self, scale: float = 1.0) -> tuple[Path, Digest, int]:
        """Return a job's result as its child would hand it over."""
        weight = np.full((8, 16), scale, np.float32)
        bias = np.arange(16, dtype=np.float32)
        tensors = [("arrays", "weight", "F32", weight.shape, weight.nbytes), ("arrays", "bias", "F32", (16,), 64)]
        data = build_header([("arrays", "array")], tensors, {}, {}) + weight.tobytes() + bias.tobytes()
        path = self.folder / f"result-{scale}"
        path.write_bytes(data)
        return path, Digest(hashlib.sha256(data).hexdigest()), len(data)

    async def publish(self, job: Job, round_: int = 3, scale: float = 1.0):
        return await self.publisher.publish(job, round_, *self.result(scale), {"loss": 0.5, "bad": float("nan")}, 2)

    async def manifest(self, version):
        envelope = await self.blobs.get_bytes(version.tenant, version.manifest, limit=MAX_MANIFEST)
        return verify(envelope, self.keys)


class CoordinatorLink:
    """The node's link, without the wire: the coordinator's own answers."""

    def __init__(self, world: World, node: NodeId) -> None:
        self._world, self._node = world, node
        self._sent: list[pb.DeployStatus] = []

    def send(self, event: pb.NodeEvent) -> bool:
        self._sent.append(event.deploy)
        return True

    async def told(self) -> None:
        """Let the coordinator hear what was sent, in order."""
        for status in self._sent:
            await self._world.deployments.deploy_status(self._node, status)

    async def download(
        self, ref: pb.ContentRef, target: Path, *, job: str = "", model: str = "", over: Path | None = None
    ) -> None:
        path = await self._world.deployments.may_download(self._node, model, Digest(ref.digest))
        if path is None:
            raise NotFound(f"no content {ref.digest}")
        target.write_bytes(path.read_bytes())
