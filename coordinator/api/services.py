"""What the REST face needs, named in one record.

The Protocols say which part of each service this layer calls; ``coordinator.app`` builds the real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from common.clock import Clock
from common.ids import AppDigest, FederationId, JobId, TenantId
from common.jobspec import JobSpec, Scalar
from coordinator.domain.jobs import Job
from coordinator.domain.nodes import Node
from coordinator.domain.tenancy import Principal
from coordinator.ports.blobs import BlobStore
from coordinator.ports.link import NodeLink
from coordinator.ports.store import Store
from coordinator.services.deploy import Deployments
from coordinator.services.enrol import Enrolment
from coordinator.services.federations import Federations
from coordinator.services.feed import JobFeed
from coordinator.services.identity import Identity
from coordinator.services.publish import Publisher
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


@dataclass(frozen=True)
class CaInfo:
    """The root that nodes and callers pin."""

    pem: str
    sha256: str  # hex, of the certificate (DER), as join tokens carry it


@dataclass(frozen=True)
class Services:
    """Everything behind the REST face."""

    identity: Identity
    federations: Federations
    enrolment: Enrolment
    submissions: Submissions
    desk: Desk
    feed: JobFeed
    publisher: Publisher
    deployments: Deployments
    link: NodeLink
    store: Store
    blobs: BlobStore
    policies: Policies
    clock: Clock
    ca: CaInfo
    jobs_dir: Path  # jobs/<job>/server.log, jobs/<job>/nodes/<name>.log
