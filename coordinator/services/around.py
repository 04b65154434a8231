"""What a running job needs around it, in one record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from common.clock import Clock
from common.ids import Digest, NodeId
from common.wire import hansa_node_pb2 as pb
from coordinator.domain.jobs import Job
from coordinator.domain.models import Deployment, ModelVersion
from coordinator.ports.blobs import BlobStore
from coordinator.ports.link import NodeLink
from coordinator.ports.store import Store
from coordinator.services.collect import Collector
from coordinator.services.feed import JobFeed
from coordinator.services.leases import Leases
from coordinator.services.nodes import Presence
from coordinator.settings import JobSettings


class Publishing(Protocol):
    """Makes versions; idempotent by (job, round)."""

    async def publish(
        self,
        job: Job,
        round_: int,
        content_path: Path,
        content_digest: Digest,
        content_size: int,
        metrics: Mapping[str, float],
        included_count: int,
    ) -> ModelVersion: ...


class Deploying(Protocol):
    """Brings versions to nodes."""

    async def after_publish(self, job: Job, version: ModelVersion) -> Sequence[Deployment]: ...
    async def node_connected(self, node: NodeId) -> None: ...
    async def deploy_status(self, node: NodeId, status: pb.DeployStatus) -> None: ...
    async def may_download(self, node: NodeId, model: str, digest: Digest) -> Path | None: ...


@dataclass(frozen=True)
class Around:
    """The services and ports of every job of this coordinator."""

    store: Store
    blobs: BlobStore
    link: NodeLink
    clock: Clock
    feed: JobFeed
    presence: Presence
    leases: Leases
    collector: Collector
    publisher: Publishing
    deployments: Deploying
    settings: JobSettings
    release: Callable[[Path], None]  # gives a spooled file back; blocks
