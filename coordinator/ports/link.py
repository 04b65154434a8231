"""What services may ask of connected nodes, and what they are told.

The rpc layer implements ``NodeLink`` and calls ``LinkEvents``; services never see a socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from common.ids import Digest, JobId, NodeId, TaskId, TenantId
from common.wire import hansa_node_pb2 as pb
from coordinator.domain.nodes import NodeReport


class NodeLink(Protocol):
    """What services may do with connected nodes.

    Guarantees: (1) ``send`` never blocks on the network and keeps order per node; (2) what is sent to a node that is
    not connected is dropped and False returned: the caller sends again when ``connected`` is told.
    """

    def send(self, node: NodeId, event: pb.CoordinatorEvent) -> bool:
        """Queue ``event`` for ``node``; return whether it is connected."""
        ...

    def connected(self) -> frozenset[NodeId]:
        """Return the nodes connected now."""
        ...

    def disconnect(self, node: NodeId, code: str, message: str) -> None:
        """End the node's stream with a farewell (revoked, quarantined)."""
        ...


@dataclass(frozen=True)
class SpooledUpdate:
    """A complete upload: its digest was checked, nothing else was."""

    task: TaskId
    node: NodeId
    digest: Digest
    size: int
    path: Path


@dataclass(frozen=True)
class Offered:
    """Content that was offered: the file, whose it is, and to which node it was offered."""

    path: Path
    tenant: TenantId
    node: NodeId


@dataclass(frozen=True)
class Awaited:
    """A task's answer: is it wanted now (False = done with it), whose task it is, and which node's."""

    wanted: bool
    tenant: TenantId
    node: NodeId


class LinkEvents(Protocol):
    """What the rpc layer tells the services.  All are called on the event loop."""

    async def node_connected(
        self, node: NodeId, report: NodeReport, held: dict[TaskId, tuple[Digest, int, Digest]]
    ) -> list[JobId]:
        """A node said hello; ``held`` maps task to (digest, size, digest of the instruction it answers).

        Returns the jobs that still need what the node keeps.
        """
        ...

    async def node_reported(self, node: NodeId, report: NodeReport) -> None: ...
    async def node_disconnected(self, node: NodeId) -> None: ...
    async def node_prepared(self, node: NodeId, job: JobId, denials: tuple[tuple[str, str], ...]) -> None: ...
    async def task_status(self, node: NodeId, status: pb.TaskStatus) -> None: ...
    async def mask_word(self, node: NodeId, word: pb.MaskWord) -> None: ...
    async def deploy_status(self, node: NodeId, status: pb.DeployStatus) -> None: ...
    async def log_chunk(self, node: NodeId, job: JobId, text: str) -> None: ...

    async def may_download(self, node: NodeId, digest: Digest, job: str, model: str) -> Offered:
        """Return the content of that digest; ``node`` of the answer is who may have it, which may be another node.

        Raises:
            NotFound: nothing around this node was offered under that name.
        """
        ...

    async def may_upload(self, node: NodeId, task: TaskId, digest: Digest, size: int) -> Awaited:
        """Say whether the update is wanted now, and from whom, which may be another node.

        Raises:
            NotFound: no such task around this node. QuotaExceeded: larger than the task allows.
        """
        ...

    async def update_received(self, update: SpooledUpdate) -> tuple[bool, str, str]:
        """Verify a spooled update and take it into its exchange: (accepted, code, message)."""
        ...
