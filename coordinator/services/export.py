"""Making a servable graph of trained arrays: the app's factory runs in a sandboxed child, the graph is checked here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import onnx

from common.errors import AppFailed, BadInput, BadUpdate
from common.ids import TenantId
from common.manifest import BlobRef
from common.sandbox import Child, ChildSpec, Limits, SandboxMode, check_sealed, launch
from coordinator.compression.packing import PackedWeights, pack_weights
from coordinator.domain.jobs import Job
from coordinator.ports.blobs import BlobStore
from coordinator.registry import graph as graphs
from coordinator.registry.describe import Servable


@dataclass(frozen=True)
class SandboxSettings:
    """How children are started at the coordinator."""

    mode: SandboxMode
    environments: Mapping[str, str]  # name -> Python interpreter
    jobs_dir: Path  # jobs_dir/<job>/app holds the app
    limits: Limits = field(default_factory=Limits)
    export_s: float = 300.0  # wall time of one export


async def export_graph(job: Job, content: Path, size: int, settings: SandboxSettings) -> bytes:
    """Return the ONNX model that the job's export factory makes of the object at ``content``.

    Raises:
        AppFailed: the factory failed, or the child did.
        BadUpdate: what it handed over is no sealed memory.
    """
    export = job.spec.export
    python = settings.environments.get(job.spec.environment)
    if export is None or python is None:
        raise AppFailed(f"environment {job.spec.environment!r} is not set up here", reason="missing_imports")
    folder = settings.jobs_dir / job.id
    spec = ChildSpec(
        role="export",
        python=python,
        app_dir=folder / "app",
        limits=settings.limits,
        log_path=folder / "export.log",
    )
    child = await launch(spec, settings.mode)
    try:
        await child.send(_start(job, folder / "app"))
        await _expect(child, "ready", settings.limits.start_s)
        fd = os.open(content, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await child.send({"op": "export", "object": size}, [fd])
        finally:
            os.close(fd)
        fds = await _expect(child, "exported", settings.export_s)
        return await asyncio.to_thread(_read_sealed, fds)
    finally:
        await child.end()


async def make_servable(data: bytes, how: str, tenant: TenantId, blobs: BlobStore) -> tuple[Servable, graphs.Parted]:
    """Check the ONNX model in ``data``, part it from its weights, pack them, and keep both as blobs.

    Raises:
        BadInput: the model is not one we take.
    """
    parted, packed = await asyncio.to_thread(_part_and_pack, data, how)
    refs = {
        "graph": BlobRef(await blobs.put_bytes(tenant, parted.graph), len(parted.graph)),
        "packed": BlobRef(await blobs.put_bytes(tenant, packed.data), len(packed.data)),
    }
    environment = {"onnx": str(onnx.__version__)} | {f"opset {name}": str(v) for name, v in parted.opsets.items()}
    return Servable(refs, parted.inputs, parted.outputs, environment, how, packed.error), parted


def _part_and_pack(data: bytes, how: str) -> tuple[graphs.Parted, PackedWeights]:
    parted = graphs.part(data)
    try:
        return parted, pack_weights(parted.weights, how, parted.axes)
    except BadUpdate as error:
        raise BadInput(f"the graph's weights cannot be packed: {error.detail}") from error


def _start(job: Job, app_dir: Path) -> dict[str, object]:
    assert job.spec.export is not None  # noqa: S101 - the caller has looked; this is for the type checker
    export = asdict(job.spec.export)
    return {
        "op": "start", "role": "export", "app_dir": str(app_dir), "component": export["factory"],
        "run_id": job.run_id, "node_id": 0, "node_config": {}, "run_config": dict(job.spec.config), "seed": job.seed,
        "aggregation": job.spec.aggregation, "individual": False,
        "export": {"factory": export["factory"], "inputs": export["inputs"]},
    }  # fmt: skip


async def _expect(child: Child, op: str, timeout: float) -> list[int]:
    message, fds = await child.receive(timeout)
    if message.get("op") == op:
        return fds
    for fd in fds:
        os.close(fd)
    if message.get("op") == "failed":
        text = str(message.get("message", ""))[:500]
        raise AppFailed(text or "the export failed", reason=str(message.get("reason", "app_raised"))[:40])
    raise AppFailed(f"the export child said {str(message.get('op'))[:40]!r}, not {op}", reason="protocol_error")


def _read_sealed(fds: list[int]) -> bytes:
    try:
        if len(fds) != 1:
            raise BadUpdate(f"the export child handed over {len(fds)} files instead of one")
        size = check_sealed(fds[0])
        if size > graphs.MAX_MODEL:
            raise BadUpdate(f"a graph of {size} bytes is over the limit of {graphs.MAX_MODEL}")
        data = bytearray()
        while len(data) < size:
            more = os.pread(fds[0], size - len(data), len(data))
            if not more:
                raise BadUpdate("the exported graph ends early")
            data += more
        return bytes(data)
    finally:
        for fd in fds:
            os.close(fd)
