"""From an app directory to an admitted job: everything that can be refused beforehand is refused here, all at once."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from common import bundle
from common.clock import Clock
from common.crypto.canonical import canonical
from common.errors import Conflict, IdempotencyMismatch, NotFound, PolicyDenied
from common.failpoints import failpoint
from common.ids import AppDigest, Digest, FederationId, JobId, TenantId, new_id
from common.jobspec import JobSpec, Scalar, parse
from common.sandbox import missing_imports_async
from coordinator.admission.eligibility import federation_denials, node_denials, only_passing
from coordinator.admission.privacy import privacy_denials
from coordinator.domain.denials import Denial
from coordinator.domain.jobs import Job, JobState, Submission
from coordinator.domain.nodes import Node
from coordinator.domain.quotas import Grant
from coordinator.domain.tenancy import Federation, Principal
from coordinator.ports.blobs import BlobStore
from coordinator.ports.store import Store, Tx
from coordinator.services.allowances import Allowances
from coordinator.services.booked import all_or_none
from coordinator.services.limits import limit_denials
from coordinator.services.machines import need_of
from coordinator.services.nodes import Presence


class Desk(Protocol):
    """Where admitted jobs go, and what they are given there."""

    async def admit(self, job: Job) -> None: ...
    def grant(self, site: TenantId, tenant: TenantId) -> Grant | None: ...


@dataclass(frozen=True)
class Plan:
    """Where a job could run, and everything against it."""

    spec: JobSpec
    nodes: tuple[tuple[Node, tuple[Denial, ...]], ...]
    missing_imports: tuple[str, ...]  # of the ServerApp, in the coordinator's environment
    denials: tuple[Denial, ...]  # of the job as a whole
    bundle: Digest
    owner: TenantId  # under whose prefix the bundle is
    federation: FederationId
    app: AppDigest

    @property
    def possible(self) -> int:
        """Return how many nodes could take part, now or when they are back."""
        return sum(1 for _, denials in self.nodes if only_passing(denials))

    @property
    def placeable(self) -> bool:
        """Say whether the job may be submitted."""
        return not self.missing_imports and not self.denials and self.possible >= self.spec.cohort.minimum

    def reasons(self) -> str:
        """Return everything against the job, for people."""
        parts = [d.message for d in self.denials]
        if self.missing_imports:
            names = ", ".join(self.missing_imports)
            parts.append(f"the ServerApp imports what environment {self.spec.environment!r} does not have: {names}")
        if self.possible < self.spec.cohort.minimum:
            parts.append(f"{self.possible} of at least {self.spec.cohort.minimum} nodes could take part")
            parts += [d.message for _, denials in self.nodes for d in denials]
        return "; ".join(parts)


class Submissions:
    """Takes in apps and jobs.

    Args:
        store: Records.
        blobs: App archives.
        desk: Where admitted jobs go.
        clock: Time.
        presence: Which nodes are connected.
        allowances: What each tenant may have queued.
        environments: Name -> Python interpreter of the coordinator's own environments.
    """

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        desk: Desk,
        clock: Clock,
        presence: Presence,
        allowances: Allowances,
        environments: Mapping[str, str],
    ) -> None:
        self._store, self._blobs, self._desk, self._clock = store, blobs, desk, clock
        self._presence, self._allowances, self._environments = presence, allowances, environments
        self._missing: dict[tuple[AppDigest, str], tuple[str, ...]] = {}
        self._turns: defaultdict[TenantId, asyncio.Lock] = defaultdict(asyncio.Lock)  # of a tenant to have apps opened

    async def add_app(self, principal: Principal, archive: bytes) -> tuple[AppDigest, str]:
        """Keep an app's archive; return its digest and name.

        Raises:
            BadInput: the archive or its ``pyproject.toml`` is malformed.
            QuotaExceeded: it is too large.
            TenantQuotaExceeded: the tenant may not store so much.
        """
        opened = await asyncio.to_thread(bundle.read_bundle, archive)
        spec = parse(opened.pyproject)
        digest = opened.digest
        now = self._clock.now()
        for tenant in sorted(principal.tenants):
            async with all_or_none(self._blobs):
                blob = await self._blobs.put_bytes(tenant, archive)
                await self._store.write(
                    lambda tx, t=tenant, b=blob: tx.apps.put(digest, t, spec.name, b, len(archive), now)  # type: ignore[misc]
                )
        return digest, spec.name

    async def plan(
        self, principal: Principal, federation: FederationId, app: AppDigest, run_config: dict[str, Scalar]
    ) -> Plan:
        """Say where the job could run, and every reason against.

        Raises:
            NotFound: no such federation or app.
            BadInput: the app's tables or the run config are malformed.
        """
        tenants = sorted(principal.tenants)
        return await self._plan(tenants[0] if tenants else TenantId(""), tenants, federation, app, run_config)

    async def submit(
        self,
        principal: Principal,
        tenant: TenantId,
        federation: FederationId,
        app: AppDigest,
        run_config: dict[str, Scalar],
        idempotency_key: str,
        seed: int | None = None,
    ) -> Job:
        """Admit a job; the same key returns the same job.

        Raises:
            NotFound: no such federation or app.
            IdempotencyMismatch: the key stands for another request.
            PolicyDenied: the job cannot be placed; every reason is in the message.
            TenantQuotaExceeded: the tenant has as many jobs queued, or as much stored, as it may.
        """
        request = _digest(federation, app, run_config, seed)
        found = await self._store.read(lambda tx: _by_key(tx, idempotency_key, tenant, request))
        if found is not None:
            return found
        await self._store.read(lambda tx: self._allowances.check_queue(tx, tenant))  # before it costs us anything
        plan = await self._plan(tenant, [tenant, *sorted(principal.tenants)], federation, app, run_config)
        if not plan.placeable:
            code = "missing_imports" if plan.missing_imports else "not_placeable"
            raise PolicyDenied(plan.reasons(), code=code, next_step="hansa job plan DIR -f FEDERATION says why")
        job = self._job(principal, tenant, federation, app, plan, seed)
        await self._own(tenant, app, plan)

        def work(tx: Tx) -> None:
            tx.jobs.put_submission(idempotency_key, tenant, Submission(job.id, request))
            self._allowances.check_queue(tx, tenant)
            tx.jobs.put(job)
            facts: dict[str, object] = {"app": app, "name": job.spec.name, "by": principal.subject}
            tx.jobs.log(job.id, job.created_at, "job_submitted", facts)

        try:
            await self._store.write(work)
        except Conflict:
            other = await self._store.read(lambda tx: _by_key(tx, idempotency_key, tenant, request))
            if other is None:
                raise
            return other
        failpoint("job_admitted")
        await self._desk.admit(job)
        return job

    async def _plan(
        self,
        tenant: TenantId,
        owners: list[TenantId],
        federation: FederationId,
        app: AppDigest,
        run_config: dict[str, Scalar],
    ) -> Plan:
        record, nodes, owner, blob = await self._store.read(lambda tx: _look(tx, federation, app, owners))
        async with self._turns[tenant]:
            data = await self._blobs.get_bytes(owner, blob, limit=bundle.LIMITS.archive_bytes)
            opened = await asyncio.to_thread(bundle.read_bundle, data)
            spec = parse(opened.pyproject, run_config)
            known = spec.environment in self._environments
            missing = await self._missing_imports(app, data, spec) if known else ()
        denials = [*federation_denials(record, tenant), *privacy_denials(record, spec)]
        if not known:
            denials.append(Denial("environment_missing", f"the coordinator has no environment {spec.environment!r}"))
        judged = tuple((node, self._node_denials(node, record, app, spec, tenant)) for node in nodes)
        return Plan(spec, judged, missing, tuple(denials), blob, owner, federation, app)

    def _node_denials(
        self, node: Node, federation: Federation, app: AppDigest, spec: JobSpec, tenant: TenantId
    ) -> tuple[Denial, ...]:
        here = self._presence.here(node.id)
        since = self._presence.since(node)
        denials = node_denials(node, federation, app, spec, connected=here, offline_since=since)
        return denials + limit_denials(node, tenant, need_of(spec), self._desk.grant)

    async def _missing_imports(self, app: AppDigest, data: bytes, spec: JobSpec) -> tuple[str, ...]:
        key = (app, spec.environment)
        if key not in self._missing:
            with tempfile.TemporaryDirectory(prefix="hansa-app-") as folder:
                target = Path(folder) / "app"
                await asyncio.to_thread(bundle.unpack, data, target)
                python = self._environments[spec.environment]
                self._missing[key] = await missing_imports_async(target, python, spec.serverapp)
        return self._missing[key]

    async def _own(self, tenant: TenantId, app: AppDigest, plan: Plan) -> None:
        """Give the job's tenant its own copy of the archive, if it was uploaded by another."""
        if plan.owner == tenant:
            return
        data = await self._blobs.get_bytes(plan.owner, plan.bundle, limit=bundle.LIMITS.archive_bytes)
        now = self._clock.now()
        async with all_or_none(self._blobs):
            await self._blobs.put_bytes(tenant, data)
            await self._store.write(lambda tx: tx.apps.put(app, tenant, plan.spec.name, plan.bundle, len(data), now))

    def _job(
        self,
        principal: Principal,
        tenant: TenantId,
        federation: FederationId,
        app: AppDigest,
        plan: Plan,
        seed: int | None,
    ) -> Job:
        return Job(
            id=JobId(new_id("job")),
            tenant=tenant,
            federation=federation,
            submitted_by=principal.subject,
            app=app,
            bundle=plan.bundle,
            spec=plan.spec,
            seed=secrets.randbits(31) if seed is None else seed,
            run_id=secrets.randbits(62) + 1,
            state=JobState.QUEUED,
            note="",
            reason="",
            created_at=self._clock.now(),
            rounds=plan.spec.rounds,
        )


def _digest(federation: FederationId, app: AppDigest, run_config: dict[str, Scalar], seed: int | None) -> str:
    asked = {"federation": federation, "app": app, "run_config": run_config, "seed": seed}
    return hashlib.sha256(canonical(asked)).hexdigest()


def _by_key(tx: Tx, key: str, tenant: TenantId, request: str) -> Job | None:
    made = tx.jobs.submission(key, tenant)
    if made is None:
        return None
    if made.request not in {None, request}:
        raise IdempotencyMismatch(
            f"this idempotency key stands for another request, which made {made.job}",
            next_step="use a new key for a new job",
        )
    return tx.jobs.get(made.job)


def _look(
    tx: Tx, federation: FederationId, app: AppDigest, owners: list[TenantId]
) -> tuple[Federation, list[Node], TenantId, Digest]:
    record = tx.tenants.federation(federation)
    if record is None:
        raise NotFound(f"no federation {federation}")
    for owner in owners:
        found = tx.apps.get(app, owner)
        if found is not None:
            nodes = sorted(tx.nodes.list(record.accepted), key=lambda n: (n.name, n.tenant))
            return record, nodes, owner, Digest(found[1])
    raise NotFound(f"no app {app[:12]}", next_step="upload it first: hansa job submit DIR")
