"""From a job's result to answers at a node: publish, sign, deploy, fetch, serve.  Real store, blobs, children and sockets."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import onnxruntime as ort
import pytest
import safetensors.numpy

from client_node.services.deploy import ModelServing
from common.clock import ManualClock
from common.crypto.keys import key_id, new_ed25519, public_bytes
from common.errors import BadInput, BadUpdate, NotFound
from common.ids import AppDigest, Digest, FederationId, JobId, NodeId, TenantId
from common.jobspec import Export, JobSpec
from common.manifest import MAX_MANIFEST, verify
from common.sandbox import Limits, SandboxMode, available
from common.tensors.content import build_header
from common.tensors.packed import unpack
from common.wire import hansa_node_pb2 as pb
from coordinator.adapters.blobs import make_blobs
from coordinator.adapters.sql import make_store
from coordinator.domain.jobs import Job, JobState, RosterEntry
from coordinator.domain.nodes import Node, NodeStatus
from coordinator.domain.tenancy import Acceptance, Federation, Principal, Role, Tenant
from coordinator.services.deploy import Deployments
from coordinator.services.export import SandboxSettings
from coordinator.services.publish import Publisher
from tests.integration.served_models import Registry, constant_linear, joined_node

pytestmark = pytest.mark.integration
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
        self.blobs = make_blobs(str(folder / "blobs"), cache_dir=folder / "cache")
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


@pytest.fixture
async def world(tmp_path: Path):
    made = World(tmp_path)
    await made.settle()
    yield made
    await made.store.close()


async def test_a_result_becomes_a_signed_version_with_a_graph_and_packed_weights(world):
    version = await world.publish(await world.job(weights="fp16"))
    assert (version.version, version.servable, version.round) == (1, True, 3)
    manifest = await world.manifest(version)
    assert (manifest.job, manifest.federation, manifest.round, manifest.cohort) == ("job_1", "fed", 3, 2)
    assert manifest.metrics == {"loss": 0.5}
    assert [(t.name, t.dtype, t.shape) for t in manifest.tensors] == [
        ("arrays/weight", "F32", (8, 16)), ("arrays/bias", "F32", (16,)),
    ]  # fmt: skip
    weights = safetensors.numpy.load(
        (await world.blobs.open(ALPHA, Digest(manifest.blobs["weights"].digest))).read_bytes()
    )
    np.testing.assert_array_equal(weights["arrays/bias"], np.arange(16))
    packed = unpack(await world.blobs.get_bytes(ALPHA, Digest(manifest.blobs["packed"].digest), limit=1 << 20))
    options = ort.SessionOptions()
    options.add_external_initializers(list(packed), [ort.OrtValue.ortvalue_from_numpy(w) for w in packed.values()])
    graph = await world.blobs.get_bytes(ALPHA, Digest(manifest.blobs["graph"].digest), limit=1 << 20)
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.ones((2, 8), np.float32)})
    np.testing.assert_allclose(y, np.tile(8 + np.arange(16), (2, 1)), rtol=1e-3)
    alias = await world.store.read(lambda tx: tx.models.alias(ALPHA, "risk", "latest"))
    assert (alias.version, alias.generation) == (1, 1)
    assert world.logged == ["model_exported", "version_published"]


async def test_publishing_the_same_job_and_round_again_is_the_same_version(world):
    job = await world.job()
    first = await world.publish(job)
    path, digest, size = world.result()
    path.unlink()  # its blob is there, the file need not be
    assert await world.publisher.publish(job, 3, path, digest, size, {}, 2) == first
    assert len(await world.store.read(lambda tx: tx.models.versions(ALPHA, "risk"))) == 1


async def test_each_version_names_the_one_before_as_its_parent(world):
    job = await world.job(factory="")
    versions = [await world.publish(job, n, float(n)) for n in (1, 2, 3)]
    manifests = [await world.manifest(v) for v in versions]
    assert [m.parent for m in manifests] == ["", versions[0].manifest, versions[1].manifest]
    assert [m.version for m in manifests] == [1, 2, 3]


async def test_concurrent_publishers_never_both_win(world):
    jobs = [await world.job(f"job_{n}", factory="") for n in range(6)]
    versions = await asyncio.gather(*(world.publish(job, 1, float(n)) for n, job in enumerate(jobs)))
    assert sorted(v.version for v in versions) == [1, 2, 3, 4, 5, 6]
    alias = await world.store.read(lambda tx: tx.models.alias(ALPHA, "risk", "latest"))
    assert (alias.version, alias.generation) == (6, 6)
    by_number = {v.version: v for v in versions}
    for version in versions:
        before = by_number.get(version.version - 1)
        assert (await world.manifest(version)).parent == (before.manifest if before else "")


async def test_the_same_result_published_twice_at_once_is_one_version(world):
    job = await world.job(factory="")
    first, second = await asyncio.gather(world.publish(job), world.publish(job))
    assert first == second
    await world.manifest(first)  # and its manifest is there


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("export_it:raises", "app_raised"),
        ("export_it:missing", "component_not_found"),
        ("export_it:custom", "bad_input"),
    ],
)
async def test_a_failed_export_costs_the_serving_and_not_the_version(world, factory, reason):
    version = await world.publish(await world.job(factory=factory))
    assert not version.servable
    assert set((await world.manifest(version)).blobs) == {"weights"}
    (entry,) = [
        e for e in await world.store.read(lambda tx: tx.jobs.log_since(JobId("job_1"), 0)) if e.event == "export_failed"
    ]
    assert entry.facts["reason"] == reason


async def test_a_result_that_is_no_object_is_refused(world):
    job = await world.job(factory="")
    path, _, _ = world.result()
    path.write_bytes(b"x" * 100)
    digest = Digest(hashlib.sha256(b"x" * 100).hexdigest())
    with pytest.raises(BadUpdate):
        await world.publisher.publish(job, 1, path, digest, 100, {}, 1)
    assert await world.store.read(lambda tx: tx.models.versions(ALPHA)) == []


async def test_an_onnx_model_from_elsewhere_is_imported_exactly(world, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(constant_linear(2.5, size=40))
    version = await world.publisher.import_model(ADMIN, ALPHA, "bought", "onnx", path)
    manifest = await world.manifest(version)
    assert (version.servable, manifest.source, manifest.packing_error, manifest.packing) == (
        True,
        "import",
        0.0,
        "fp32",
    )
    alias = await world.store.read(lambda tx: tx.models.alias(ALPHA, "bought", "latest"))
    assert (alias.version, alias.moved_by) == (1, "ada")


async def test_safetensors_from_elsewhere_are_kept_byte_for_byte(world, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.numpy.save({"w": np.ones((2, 3), np.float16)}, {"by": "them"}))
    version = await world.publisher.import_model(ADMIN, ALPHA, "weights", "safetensors", path)
    manifest = await world.manifest(version)
    assert not version.servable
    stored = await world.blobs.open(ALPHA, Digest(manifest.blobs["weights"].digest))
    assert stored.read_bytes() == path.read_bytes()
    assert [(t.name, t.dtype, t.shape) for t in manifest.tensors] == [("w", "F16", (2, 3))]


@pytest.mark.parametrize("fmt", ["onnx", "safetensors", "pickle"])
@pytest.mark.parametrize("data", [b"", b"\x80\x04K\x01.", os.urandom(1000)])
async def test_an_import_of_noise_is_bad_input_and_leaves_no_version(world, tmp_path, fmt, data):
    path = tmp_path / "noise"
    path.write_bytes(data)
    with pytest.raises(BadInput):
        await world.publisher.import_model(ADMIN, ALPHA, "noise", fmt, path)
    assert await world.store.read(lambda tx: tx.models.versions(ALPHA)) == []


async def test_a_published_version_goes_to_the_roster_and_is_told_again_on_connection(world):
    job = await world.job()
    version = await world.publish(job)
    made = await world.deployments.after_publish(job, version)
    assert [(d.node, d.state, d.wanted) for d in made] == [(HOSPITAL, "pending", True), (CLINIC, "pending", True)]
    await world.deployments.node_connected(CLINIC)
    events = [event.deploy for node, event in world.wires.sent if node == CLINIC]
    assert len(events) == 2
    assert events[0] == events[1]
    assert (events[0].model, events[0].version, events[0].alias) == ("alpha/risk", 1, "latest")
    assert events[0].manifest.digest == version.manifest


async def test_a_version_without_a_graph_is_not_deployed(world):
    job = await world.job(factory="")
    version = await world.publish(job)
    assert await world.deployments.after_publish(job, version) == []
    with pytest.raises(BadInput):
        await world.deployments.deploy(ALPHA, "risk", 1, [HOSPITAL])
    with pytest.raises(NotFound):
        await world.deployments.deploy(ALPHA, "risk", 2)


async def test_a_node_outside_the_federation_is_not_found(world):
    await world.publish(await world.job())
    for node in (STRANGER, NodeId("node_nobody")):
        with pytest.raises(NotFound):
            await world.deployments.deploy(ALPHA, "risk", 1, [HOSPITAL, node])
    assert await world.store.read(lambda tx: tx.models.deployments(tenant=ALPHA)) == []


async def test_a_node_may_fetch_what_it_should_serve_and_nothing_else(world):
    job = await world.job()
    first, second = await world.publish(job, 1, 1.0), await world.publish(job, 2, 2.0)
    await world.deployments.deploy(ALPHA, "risk", 1, [CLINIC])
    manifest = await world.manifest(first)

    async def may(digest: str, node: NodeId = CLINIC, model: str = "alpha/risk") -> bool:
        return await world.deployments.may_download(node, model, Digest(digest)) is not None

    assert await may(first.manifest)
    assert await may(manifest.blobs["graph"].digest)
    assert await may(manifest.blobs["packed"].digest)
    assert not await may(manifest.blobs["weights"].digest)  # the master weights stay at the coordinator
    assert not await may(second.manifest)
    assert not await may(first.manifest, HOSPITAL)
    assert not await may(first.manifest, CLINIC, "beta/risk")
    await world.deployments.deploy(ALPHA, "risk", 2, [CLINIC])
    assert await may(second.manifest)
    assert not await may(first.manifest)


async def test_statuses_are_recorded_and_unwanted_models_are_ended(world):
    await world.publish(await world.job())
    await world.deployments.deploy(ALPHA, "risk", 1, [HOSPITAL])
    status = pb.DeployStatus(model="alpha/risk", version=1, state=pb.DeployStatus.SERVING, url="http://127.0.0.1:1/x")
    await world.deployments.deploy_status(HOSPITAL, status)
    (row,) = await world.store.read(lambda tx: tx.models.deployments(node=HOSPITAL))
    assert (row.state, row.url) == ("serving", "http://127.0.0.1:1/x")
    await world.deployments.deploy_status(CLINIC, status)  # never asked to
    assert await world.store.read(lambda tx: tx.models.deployments(node=CLINIC)) == []
    node, event = world.wires.sent[-1]
    assert (node, event.undeploy.model) == (CLINIC, "alpha/risk")
    await world.deployments.undeploy(ALPHA, "risk")
    assert world.wires.sent[-1] == (HOSPITAL, pb.CoordinatorEvent(undeploy=pb.Undeploy(model="alpha/risk", version=1)))


async def test_a_trained_model_answers_at_its_node(world, tmp_path):
    job = await world.job(weights="int8")
    version = await world.publish(job, scale=0.5)
    await world.deployments.after_publish(job, version)
    order = next(event.deploy for node, event in world.wires.sent if node == HOSPITAL)
    registry = Registry(key=world.key)
    serving = ModelServing(joined_node(tmp_path / "node", registry), MODE)
    await serving.start()
    try:
        link = CoordinatorLink(world, HOSPITAL)
        await serving.handle_deploy(order, link)
        await link.told()
        rows = await world.store.read(lambda tx: tx.models.deployments(node=HOSPITAL))
        assert [row.state for row in rows] == ["serving"]
        async with httpx.AsyncClient(base_url=serving.url) as client:
            answer = await client.post("/v1/models/risk/labels/latest:predict", json={"instances": [[1] * 8, [2] * 8]})
        expected = [[4 + i for i in range(16)], [8 + i for i in range(16)]]
        np.testing.assert_allclose(answer.json()["predictions"], expected, rtol=1e-3)
    finally:
        await serving.close()


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

    async def download(self, ref: pb.ContentRef, target: Path, *, job: str = "", model: str = "") -> None:
        path = await self._world.deployments.may_download(self._node, model, Digest(ref.digest))
        if path is None:
            raise NotFound(f"no content {ref.digest}")
        target.write_bytes(path.read_bytes())


CRASH = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.integration.test_serving_publish import World
async def main():
    world = World(Path(sys.argv[1]))
    await world.store.acquire_epoch()
    job = await world.store.read(lambda tx: tx.jobs.get("job_1"))
    await world.publish(job)
asyncio.run(main())
"""


async def test_a_crash_between_manifest_and_alias_leaves_no_version_and_the_next_try_makes_one(world):
    job = await world.job(factory="")
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", CRASH.format(root=root), str(world.folder)],
        env=os.environ | {"HANSA_FAILPOINT": "manifest_written_before_alias"},
    )
    assert await asyncio.to_thread(process.wait, 60) == -signal.SIGKILL
    await world.store.acquire_epoch()
    assert await world.store.read(lambda tx: tx.models.versions(ALPHA)) == []
    version = await world.publish(job)
    assert version.version == 1
    assert replace(await world.manifest(version), metrics={}).round == 3
