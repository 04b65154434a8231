"""What the REST face needs, named in one record.

The Protocols say which part of each service this layer calls; ``coordinator.app`` builds the real ones.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from common.clock import Clock
from common.ids import AppDigest, FederationId, JobId, NodeId, TenantId
from common.jobspec import JobSpec, Scalar
from coordinator.domain.jobs import Job, JobLogEntry
from coordinator.domain.models import Deployment, ModelVersion
from coordinator.domain.nodes import Node
from coordinator.domain.tenancy import Principal
from coordinator.ports.blobs import BlobStore
from coordinator.ports.link import NodeLink
from coordinator.ports.store import Store
from coordinator.services.federations import Federations
from coordinator.services.identity import Identity
from policies.engine import Policies


class DenialLike(Protocol):
    """One reason against."""

    @property
    def code(self) -> str: ...
    @property
    def message(self) -> str: ...


class PlanLike(Protocol):
    """Where a job could run."""

    @property
    def spec(self) -> JobSpec: ...
    @property
    def nodes(self) -> Sequence[tuple[Node, Sequence[DenialLike]]]: ...
    @property
    def missing_imports(self) -> Sequence[str]: ...
    @property
    def placeable(self) -> bool: ...


class JoinLike(Protocol):
    """What a joining node is given."""

    @property
    def node(self) -> str: ...
    @property
    def tenant(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def certificate(self) -> str: ...
    @property
    def ca(self) -> str: ...
    @property
    def link(self) -> str: ...
    @property
    def manifest_keys(self) -> Mapping[str, str]: ...
    @property
    def time(self) -> float: ...


class Enrolment(Protocol):
    """``services/enrol``."""

    async def join(self, token_text: str, csr_pem: str, name: str) -> JoinLike: ...
    async def revoke(self, node_id: NodeId) -> None: ...


class Submissions(Protocol):
    """``services/submit``."""

    async def add_app(self, principal: Principal, archive: bytes) -> tuple[AppDigest, str]: ...
    async def plan(
        self, principal: Principal, federation: FederationId, app: AppDigest, run_config: dict[str, Scalar]
    ) -> PlanLike: ...
    async def submit(
        self,
        principal: Principal,
        tenant: TenantId,
        federation: FederationId,
        app: AppDigest,
        run_config: dict[str, Scalar],
        idempotency_key: str,
        seed: int | None = None,
    ) -> Job: ...


class Desk(Protocol):
    """``services/desk``."""

    async def cancel(self, job_id: JobId, by: str) -> None: ...


class Feed(Protocol):
    """``services/feed``: history, then live; ends after the job's last entry."""

    def follow(self, job: JobId, after: int) -> AsyncIterator[JobLogEntry]: ...


class Publisher(Protocol):
    """``services/publish``."""

    async def import_model(
        self, principal: Principal, tenant: TenantId, model: str, fmt: str, path: Path
    ) -> ModelVersion: ...


class Deployments(Protocol):
    """``services/deploy``."""

    async def deploy(
        self, tenant: TenantId, model: str, version: int, nodes: Sequence[NodeId]
    ) -> Sequence[Deployment]: ...


@dataclass(frozen=True)
class CaInfo:
    """The root that nodes and callers pin."""

    pem: str
    sha256: str  # hex, of the root's public key, as in join tokens


@dataclass(frozen=True)
class Services:
    """Everything behind the REST face."""

    identity: Identity
    federations: Federations
    enrolment: Enrolment
    submissions: Submissions
    desk: Desk
    feed: Feed
    publisher: Publisher
    deployments: Deployments
    link: NodeLink
    store: Store
    blobs: BlobStore
    policies: Policies
    clock: Clock
    ca: CaInfo
    jobs_dir: Path  # jobs/<job>/server.log, jobs/<job>/nodes/<name>.log
