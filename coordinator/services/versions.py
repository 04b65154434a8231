"""Writing a version: the signed manifest first, then its row and the alias in one transaction.

A crash between the two leaves a blob that nothing names, never a version without a manifest.  Two writers of one model
race for the number in the transaction; the loser signs again with the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common import manifest as manifests
from common.clock import Clock
from common.crypto.keys import key_id, public_bytes
from common.errors import Conflict
from common.failpoints import failpoint
from common.ids import Digest, FederationId, JobId, TenantId
from common.manifest import Manifest
from coordinator.domain.jobs import JobLogEntry
from coordinator.domain.models import Alias, ModelVersion
from coordinator.ports.blobs import BlobStore
from coordinator.ports.store import Store, Tx

_ATTEMPTS = 100  # of one writer against others of the same model


@dataclass(frozen=True)
class Written:
    """What came of it: ``fresh`` is False where another writer had published the same job and round before."""

    version: ModelVersion
    fresh: bool


class VersionWriter:
    """Signs manifests and moves aliases."""

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        signer: Ed25519PrivateKey,
        clock: Clock,
        on_log: Callable[[JobLogEntry], None] | None = None,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._signer = signer
        self._key_id = key_id(public_bytes(signer))
        self._clock = clock
        self._on_log = on_log

    async def write(self, draft: Manifest, alias: str, moved_by: str) -> Written:
        """Publish ``draft`` as the next version of its model and move ``alias`` to it; "" moves none.

        Raises:
            Conflict: other writers won a hundred times in a row.
        """
        for _ in range(_ATTEMPTS):
            manifest = await self._numbered(draft)
            envelope = manifests.sign(manifest, self._signer)
            digest = await self._blobs.put_bytes(TenantId(draft.tenant), envelope)
            failpoint("manifest_written_before_alias")
            work = partial(self._commit, self._row(manifest, digest, len(envelope)), alias, moved_by)
            try:
                written, entry = await self._store.write(work)
            except Conflict:
                continue  # the manifest stays: in a tie within one clock tick it is the winner's too
            if entry is not None and self._on_log is not None:
                self._on_log(entry)
            return written
        raise Conflict(f"model {draft.tenant}/{draft.model} is being published by others all the time")

    async def _numbered(self, draft: Manifest) -> Manifest:
        tenant = TenantId(draft.tenant)

        def look(tx: Tx) -> tuple[int, ModelVersion | None]:
            number = tx.models.next_version(tenant, draft.model)
            return number, tx.models.version(tenant, draft.model, number - 1)

        number, before = await self._store.read(look)
        return replace(draft, version=number, parent=before.manifest if before else "", key_id=self._key_id)

    def _row(self, manifest: Manifest, digest: Digest, size: int) -> ModelVersion:
        return ModelVersion(
            tenant=TenantId(manifest.tenant),
            model=manifest.model,
            version=manifest.version,
            manifest=digest,
            manifest_size=size,
            federation=FederationId(manifest.federation) if manifest.federation else None,
            job=JobId(manifest.job) if manifest.job else None,
            round=manifest.round,
            created_at=self._clock.now(),
            metrics=manifest.metrics,
            servable=manifest.servable,
        )

    def _commit(self, row: ModelVersion, alias: str, moved_by: str, tx: Tx) -> tuple[Written, JobLogEntry | None]:
        if row.job is not None and (found := tx.models.version_of_job(row.job, row.round)) is not None:
            return Written(found, fresh=False), None
        if tx.models.next_version(row.tenant, row.model) != row.version:
            raise Conflict(f"version {row.version} of {row.tenant}/{row.model} was taken meanwhile")
        tx.models.add_version(row)
        if alias:
            self._move(tx, row, alias, moved_by)
        if row.job is None:
            return Written(row, fresh=True), None
        facts: dict[str, object] = {
            "model": f"{row.tenant}/{row.model}", "version": row.version, "alias": alias, "manifest": row.manifest,
            "round": row.round, "servable": row.servable,
        }  # fmt: skip
        return Written(row, fresh=True), tx.jobs.log(row.job, row.created_at, "version_published", facts)

    def _move(self, tx: Tx, row: ModelVersion, name: str, moved_by: str) -> None:
        before = tx.models.alias(row.tenant, row.model, name)
        expected = before.generation if before else 0
        alias = Alias(row.tenant, row.model, name, row.version, expected + 1, moved_by, row.created_at)
        if not tx.models.move_alias(alias, expected_generation=expected):
            raise Conflict(f"alias {name} of {row.tenant}/{row.model} was moved meanwhile")
