"""What a running job needs around it, in one record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.clock import Clock
from coordinator.ports.blobs import BlobStore
from coordinator.ports.link import NodeLink
from coordinator.ports.store import Store
from coordinator.services.collect import Collector
from coordinator.services.deploy import Deployments
from coordinator.services.feed import JobFeed
from coordinator.services.leases import Leases
from coordinator.services.nodes import Presence
from coordinator.services.publish import Publisher
from coordinator.settings import JobSettings


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
    publisher: Publisher
    deployments: Deployments
    settings: JobSettings
    release: Callable[[Path], None]  # gives a spooled file back; blocks
