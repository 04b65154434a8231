"""The result of a job, or a model from elsewhere, becomes a version.

Order: weights blob → export and packing (a failure there is on the job's log and costs only the serving) → signed
manifest → row and alias.  Idempotent by (job, round): after a crash it is simply called again.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.clock import Clock, iso
from common.errors import AppFailed, BadInput, BadUpdate, NotFound, SandboxUnavailable
from common.ids import Digest, TenantId, slug
from common.manifest import BlobRef, TensorRow
from common.tensors.content import Content, read_content
from coordinator.domain.jobs import Job, JobLogEntry
from coordinator.domain.models import ModelVersion
from coordinator.domain.tenancy import Principal
from coordinator.ports.blobs import BlobStore
from coordinator.ports.store import Store
from coordinator.registry.describe import NOT_SERVABLE, Servable, draft, provenance
from coordinator.services.booked import all_or_none
from coordinator.services.export import SandboxSettings, export_graph, make_servable
from coordinator.services.files import take_copy
from coordinator.services.import_model import draft_import
from coordinator.services.versions import VersionWriter

_IMPORT_PACKING = "fp32"  # what somebody else trained is served as it is


class Publisher:
    """Makes versions."""

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        signer: Ed25519PrivateKey,
        sandbox: SandboxSettings,
        clock: Clock,
        on_log: Callable[[JobLogEntry], None] | None = None,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._sandbox = sandbox
        self._clock = clock
        self._on_log = on_log
        self._importing: defaultdict[TenantId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._writer = VersionWriter(store, blobs, signer, clock, on_log)

    async def publish(
        self,
        job: Job,
        round_: int,
        content_path: Path,
        content_digest: Digest,
        content_size: int,
        metrics: Mapping[str, float],
        included_count: int,
    ) -> ModelVersion:
        """Publish the object at ``content_path`` as a version of the job's model; the file stays where it is.

        Args:
            job: Whose result it is; its tenant owns the version.
            round_: The round it is of; with the job it names the version for ever.
            content_path: The object; may be gone if its blob is there already.
            content_digest: Its SHA-256.
            content_size: Its bytes.
            metrics: For the manifest.
            included_count: Nodes whose updates went into it.

        Raises:
            BadUpdate: it is no well-formed object.
        """
        found = await self._store.read(lambda tx: tx.models.version_of_job(job.id, round_))
        if found is not None:
            return found
        blob = await self._keep(job.tenant, content_path, content_digest)
        content = await asyncio.to_thread(_read, blob, content_size)
        servable = await self._export(job, blob, content_size)
        manifest = draft(
            tenant=job.tenant,
            model=job.spec.model or job.spec.name,
            tensors=tuple(TensorRow(t.name, t.dtype, t.shape) for t in content.tensors),
            weights=BlobRef(content_digest, content_size),
            servable=servable,
            created_at=iso(self._clock.now()),
        )
        changes = provenance(job, round_, included_count, metrics)
        written = await self._writer.write(replace(manifest, **changes), job.spec.alias, job.submitted_by)  # type: ignore[arg-type]  # provenance names fields of Manifest
        return written.version

    async def import_model(
        self, principal: Principal, tenant: TenantId, model: str, fmt: str, path: Path
    ) -> ModelVersion:
        """Publish the model file at ``path`` (ONNX or safetensors) as the next version, alias ``latest``.

        Raises:
            BadInput: the name or the file is not one we take.
            NotFound: no such tenant.
            TenantQuotaExceeded: the tenant may not store so much.
        """
        slug(model, what="model")
        if await self._store.read(lambda tx: tx.tenants.get(tenant)) is None:
            raise NotFound(f"no tenant {tenant}")
        now = iso(self._clock.now())
        # One at a time: reading and packing a model takes threads that other tenants need too.
        async with self._importing[tenant], all_or_none(self._blobs):
            manifest = await draft_import(tenant, model, fmt, path, blobs=self._blobs, how=_IMPORT_PACKING, now=now)
            return (await self._writer.write(manifest, "latest", principal.subject)).version

    async def _keep(self, tenant: TenantId, path: Path, digest: Digest) -> Path:
        if not await self._blobs.exists(tenant, digest):
            copy, found = await asyncio.to_thread(take_copy, path, self._blobs.work_dir())
            if found != digest:
                copy.unlink()
                raise BadUpdate(f"the object has digest {found[:12]}…, not {digest[:12]}…")
            await self._blobs.put_file(tenant, copy, digest)
        return await self._blobs.open(tenant, digest)

    async def _export(self, job: Job, content: Path, size: int) -> Servable:
        if job.spec.export is None:
            return NOT_SERVABLE
        try:
            data = await export_graph(job, content, size, self._sandbox)
            servable, _ = await make_servable(data, job.spec.export.weights, job.tenant, self._blobs)
        except (AppFailed, BadInput, BadUpdate, SandboxUnavailable) as error:
            reason = error.reason if isinstance(error, AppFailed) else error.code
            await self._log(job, "export_failed", {"reason": reason, "message": error.detail[:1000]})
            return NOT_SERVABLE
        facts = {role: ref.size for role, ref in servable.blobs.items()}
        await self._log(job, "model_exported", facts | {"packing": servable.packing, "error": servable.packing_error})
        return servable

    async def _log(self, job: Job, event: str, facts: dict[str, object]) -> None:
        now = self._clock.now()
        entry = await self._store.write(lambda tx: tx.jobs.log(job.id, now, event, facts))
        if self._on_log is not None:
            self._on_log(entry)


def _read(path: Path, size: int) -> Content:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_size != size:
            raise BadUpdate(f"the object is {os.fstat(fd).st_size} bytes long, not {size}")
        return read_content(fd, size)
    finally:
        os.close(fd)
