"""A model trained elsewhere becomes a version: ONNX (servable) or safetensors (weights only)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from common.errors import BadInput, BadUpdate
from common.ids import Digest, TenantId
from common.manifest import BlobRef, Manifest, TensorRow
from common.tensors.content import build_header
from common.tensors.dtypes import name_of
from common.tensors.safe import ContentLimits, SafeTable, parse_table, read_head
from coordinator.ports.blobs import BlobStore
from coordinator.registry import graph as graphs
from coordinator.registry.describe import NOT_SERVABLE, draft
from coordinator.services.export import make_servable
from coordinator.services.files import take_copy

FORMATS = ("onnx", "safetensors")
_LIMITS = ContentLimits()


async def draft_import(
    tenant: TenantId, model: str, fmt: str, path: Path, *, blobs: BlobStore, how: str, now: str
) -> Manifest:
    """Return the draft of a manifest for the model file at ``path``, its blobs kept.

    Raises:
        BadInput: an unknown format, or the file is not what it says.
    """
    if fmt == "onnx":
        return await _onnx(tenant, model, path, blobs, how, now)
    if fmt == "safetensors":
        return await _safetensors(tenant, model, path, blobs, now)
    raise BadInput(f"models can be imported as {' or '.join(FORMATS)}, not {fmt[:40]!r}")


async def _onnx(tenant: TenantId, model: str, path: Path, blobs: BlobStore, how: str, now: str) -> Manifest:
    servable, parted = await make_servable(await asyncio.to_thread(_model, path), how, tenant, blobs)
    weights = await asyncio.to_thread(_object, parted)
    ref = BlobRef(await blobs.put_bytes(tenant, weights), len(weights))
    rows = tuple(TensorRow(name, name_of(a.dtype), a.shape) for name, a in parted.weights.items())
    return draft(tenant=tenant, model=model, tensors=rows, weights=ref, servable=servable, created_at=now)


def _model(path: Path) -> bytes:
    size = path.stat().st_size
    if size > graphs.MAX_MODEL:
        raise BadInput(f"an ONNX model of {size} bytes is over the limit of {graphs.MAX_MODEL}")
    return path.read_bytes()


def _object(parted: graphs.Parted) -> bytes:
    """Return the graph's weights as one object, like those of a job."""
    entries = [("arrays", name, name_of(a.dtype), a.shape, a.nbytes) for name, a in parted.weights.items()]
    return build_header([("arrays", "array")], entries, {}, {}) + b"".join(a.tobytes() for a in parted.weights.values())


async def _safetensors(tenant: TenantId, model: str, path: Path, blobs: BlobStore, now: str) -> Manifest:
    try:
        table = await asyncio.to_thread(_table, path)
    except BadUpdate as error:
        raise BadInput(f"this is not a safetensors file we take: {error.detail}") from error
    copy, digest = await asyncio.to_thread(take_copy, path, blobs.work_dir())
    await blobs.put_file(tenant, copy, Digest(digest))
    rows = tuple(TensorRow(t.name, t.dtype, t.shape) for t in table.tensors)
    ref = BlobRef(digest, table.size)
    return draft(tenant=tenant, model=model, tensors=rows, weights=ref, servable=NOT_SERVABLE, created_at=now)


def _table(path: Path) -> SafeTable:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        return parse_table(read_head(fd, size, _LIMITS), size, _LIMITS)
    finally:
        os.close(fd)
