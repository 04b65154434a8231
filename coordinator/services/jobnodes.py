"""The nodes of one job: which it concerns, which have its app ready, and what their coming and going means to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from common.ids import NodeId, TenantId
from common.wire import hansa_node_pb2 as pb
from coordinator.domain.denials import Denial
from coordinator.domain.jobs import Job
from coordinator.services.around import Around
from coordinator.services.exchange import LiveExchange
from coordinator.services.roster import Assembly


class JobNodes:
    """What the node link tells one job.

    Args:
        around: Services.
        job: Returns the job as it is now.
        live: Its open exchanges; shared with its run.
    """

    def __init__(self, around: Around, job: Callable[[], Job], live: Mapping[int, LiveExchange]) -> None:
        self._around, self._job, self._live = around, job, live
        self.ready: set[NodeId] = set()  # they have the app prepared on their present connection
        self.assembly: Assembly | None = None  # while the roster is gathered
        self.question: pb.CoordinatorEvent | None = None  # may this job run with you?
        self.members: frozenset[TenantId] = frozenset()  # tenants of the federation, before there is a roster

    def concerned(self, node: NodeId) -> bool:
        """Say whether the job needs what the node keeps for it."""
        roster = self._job().roster
        if roster:
            return any(entry.node == node for entry in roster)
        return self._around.presence.tenant(node) in self.members

    def ask_roster(self) -> None:
        """Ask those of the roster that are not ready; after a restart of ours nobody is."""
        for entry in self._job().roster:
            if entry.node not in self.ready and self.question is not None:
                self._around.link.send(entry.node, self.question)

    def connected(self, node: NodeId) -> None:
        """A node's stream opened: ask it to have the app ready; its tasks follow when it has."""
        self.ready.discard(node)
        if self.assembly is not None:
            self.assembly.forget(node)
        elif self.question is not None and self.concerned(node):
            self._around.link.send(node, self.question)

    def gone(self, node: NodeId) -> None:
        """A node's stream ended."""
        self.ready.discard(node)
        if self.assembly is not None:
            self.assembly.forget(node)
        for live in list(self._live.values()):
            live.node_gone(node)

    def reported(self, node: NodeId) -> None:
        """A node said something new of itself: it may be able now."""
        if node in self.ready:
            return
        if self.assembly is not None:
            self.assembly.forget(node)
        elif self.question is not None and self.concerned(node):
            self._around.link.send(node, self.question)

    def prepared(self, node: NodeId, denials: tuple[Denial, ...]) -> None:
        """A node answered whether the job may run there."""
        if denials:
            self._refused(node, denials)
            return
        news = node not in self.ready
        self.ready.add(node)
        if self.assembly is not None:
            self.assembly.prepared(node, ())
        elif news:
            for live in list(self._live.values()):
                live.node_ready(node)

    def _refused(self, node: NodeId, denials: tuple[Denial, ...]) -> None:
        self.ready.discard(node)
        facts = [{"code": d.code, "message": d.message} for d in denials]
        self._around.feed.note(self._job().id, "node_denied", node=node, denials=facts)
        if self.assembly is not None:
            self.assembly.prepared(node, denials)
            return
        for live in list(self._live.values()):
            live.node_denied(node, "; ".join(f"{d.code}: {d.message}" for d in denials))
