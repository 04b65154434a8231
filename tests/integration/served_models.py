"""Small ONNX models, signed versions of them, and a link that hands them over: what the serving tests share."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from client_node.services.deploy import ModelServing
from common import manifest as manifests
from common.crypto.keys import key_id, new_ed25519, public_bytes
from common.errors import NotFound
from common.manifest import BlobRef, Manifest
from common.sandbox import SandboxMode, available
from common.wire import hansa_node_pb2 as pb
from coordinator.compression.packing import pack_weights
from coordinator.registry.graph import part

MODE = SandboxMode.BWRAP if available()[0] else SandboxMode.NONE
ZEROS = {"instances": [[0] * 8]}


def linear_onnx(weights, bias, *, inputs="x", outputs="y"):
    """Return an ONNX model: ``y = x @ weights + bias`` with a free batch dimension."""
    weights, bias = np.asarray(weights, np.float32), np.asarray(bias, np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", [inputs, "w"], ["h"]), helper.make_node("Add", ["h", "b"], [outputs])],
        "linear",
        [helper.make_tensor_value_info(inputs, TensorProto.FLOAT, ["batch", weights.shape[0]])],
        [helper.make_tensor_value_info(outputs, TensorProto.FLOAT, ["batch", weights.shape[1]])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def constant_linear(value: float, *, size: int = 8, tenant_outputs: int = 4) -> bytes:
    """Return a linear model whose every output is ``value`` for a row of zeros, and grows by 1 with each unit of x[0]."""
    weights = np.zeros((size, tenant_outputs), np.float32)
    weights[0] = 1.0
    return linear_onnx(weights, np.full(tenant_outputs, value, np.float32))


@dataclass
class Registry:
    """Signs versions and keeps their blobs by digest."""

    key: object = field(default_factory=new_ed25519)
    blobs: dict[str, bytes] = field(default_factory=dict)

    @property
    def pinned(self) -> dict[str, str]:
        public = public_bytes(self.key)
        return {key_id(public): public.hex()}

    def put(self, data: bytes) -> BlobRef:
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return BlobRef(digest, len(data))

    def version(self, model: bytes, version: int, *, tenant="alpha", name="risk", how="fp32", key=None) -> pb.Deploy:
        """Sign ``model`` as a version and return the order to serve it."""
        parted = part(model)
        packed = pack_weights(parted.weights, how, parted.axes)
        manifest = Manifest(
            tenant=tenant, model=name, version=version, source="import", federation="", job="", app_digest="",
            parent="", round=0, cohort=0, metrics={}, tensors=(),
            blobs={"graph": self.put(parted.graph), "packed": self.put(packed.data)},
            inputs=parted.inputs, outputs=parted.outputs, environment={}, packing=how, packing_error=packed.error,
            created_at="2026-01-01T00:00:00.000Z", key_id=next(iter(self.pinned)),
        )  # fmt: skip
        ref = self.put(manifests.sign(manifest, key or self.key))
        return pb.Deploy(
            model=f"{tenant}/{name}", version=version, manifest=pb.ContentRef(digest=ref.digest, size=ref.size),
            alias="latest",
        )  # fmt: skip


@dataclass
class HandingLink:
    """The node's link over a registry in memory: what it downloads is what lies there."""

    registry: Registry
    sent: list[pb.DeployStatus] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)

    def send(self, event: pb.NodeEvent) -> bool:
        self.sent.append(event.deploy)
        return True

    async def download(
        self, ref: pb.ContentRef, target: Path, *, job: str = "", model: str = "", over: Path | None = None
    ) -> None:
        self.downloads.append(ref.digest)
        if ref.digest not in self.registry.blobs:
            raise NotFound(f"no content {ref.digest}")
        target.write_bytes(self.registry.blobs[ref.digest])

    def states(self, version: int) -> list[str]:
        """Return the states told of ``version``, in order."""
        return [pb.DeployStatus.State.Name(s.state) for s in self.sent if s.version == version]


def joined_node(folder: Path, registry: Registry, tenant: str = "alpha") -> Path:
    """Return ``folder`` as the directory of a node that joined."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "node.json").write_text(json.dumps({"tenant": tenant, "manifest_keys": registry.pinned}))
    return folder


async def ask(serving: ModelServing, path: str = "/v1/models/risk:predict", body: object = ZEROS, **kwargs):
    async with httpx.AsyncClient(base_url=serving.url, timeout=30) as client:
        return await client.post(path, json=body, **kwargs)


async def value(serving: ModelServing) -> float:
    answer = await ask(serving)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"][0][0]
