"""What a running job needs around it, in one record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.clock import Clock
from coordinator.ports.link import NodeLink
from coordinator.ports.store import Store
from coordinator.services.allowances import Allowances
from coordinator.services.booked import BookedBlobs
from coordinator.services.collect import Collector
from coordinator.services.deploy import Deployments
from coordinator.services.estimates import Estimates
from coordinator.services.feed import JobFeed
from coordinator.services.nodes import Presence
from coordinator.services.places import Places
from coordinator.services.publish import Publisher
from coordinator.services.schedule import Schedule
from coordinator.settings import JobSettings


@dataclass(frozen=True)
class Around:
    """The services and ports of every job of this coordinator."""

    store: Store
    blobs: BookedBlobs
    link: NodeLink
    clock: Clock
    feed: JobFeed
    presence: Presence
    schedule: Schedule
    estimates: Estimates
    collector: Collector
    publisher: Publisher
    deployments: Deployments
    allowances: Allowances
    places: Places
    settings: JobSettings
    release: Callable[[Path], None]  # gives a spooled file back; blocks
