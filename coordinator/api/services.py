"""What the REST face needs, named in one record; ``coordinator.app`` builds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from common.clock import Clock
from common.ids import JobId
from coordinator.ports.blobs import BlobStore
from coordinator.ports.link import NodeLink
from coordinator.ports.store import Store
from coordinator.services.allowances import Allowances
from coordinator.services.deploy import Deployments
from coordinator.services.enrol import Enrolment
from coordinator.services.federations import Federations
from coordinator.services.feed import JobFeed
from coordinator.services.foresight import Foresight
from coordinator.services.grants import Grants
from coordinator.services.identity import Identity
from coordinator.services.publish import Publisher
from coordinator.services.queue import QueueView
from coordinator.services.submit import Submissions
from policies.engine import Policies


class Desk(Protocol):
    """The one act of ``services/desk`` that callers have."""

    async def cancel(self, job_id: JobId, by: str) -> None: ...


@dataclass(frozen=True)
class CaInfo:
    """The root that nodes and callers pin."""

    pem: str
    sha256: str  # hex, of the certificate (DER), as join tokens carry it
    manifest_keys: dict[str, str] = field(default_factory=dict)  # key id -> Ed25519 public key, hex


@dataclass(frozen=True)
class Services:
    """Everything behind the REST face."""

    identity: Identity
    federations: Federations
    enrolment: Enrolment
    submissions: Submissions
    grants: Grants
    allowances: Allowances
    desk: Desk
    queue: QueueView
    foresight: Foresight
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
