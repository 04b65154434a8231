"""The nodes of one job: which it concerns, which have its app ready, and what their coming and going means to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from common.ids import NodeId, TenantId
from common.wire import hansa_node_pb2 as pb
from coordinator.domain.denials import Denial
from coordinator.domain.jobs import Job
from coordinator.domain.tenancy import Federation
from coordinator.services import offers
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
        self.members: frozenset[TenantId] | None = None  # tenants of the federation; None: not known yet

    def concerned(self, node: NodeId) -> bool:
        """Say whether the job needs what the node keeps for it."""
        roster = self._job().roster
        if roster:
            return any(entry.node == node and self._in(entry.tenant) for entry in roster)
        return self._around.presence.tenant(node) in (self.members or ())

    def ask_roster(self) -> None:
        """Ask those of the roster that are not ready; after a restart of ours nobody is."""
        for entry in self._job().roster:
            if entry.node not in self.ready and self.question is not None and self._in(entry.tenant):
                self._around.link.send(entry.node, self.question)

    def federation_changed(self, federation: Federation) -> None:
        """Tenants came or left: those that are not in it any longer take no more part, those that are back do."""
        before, self.members = self.members, federation.accepted
        if self.assembly is not None:
            self.assembly.changed.set()
        for entry in self._job().roster:
            was, now = before is None or entry.tenant in before, entry.tenant in federation.accepted
            if was and not now:
                self.ready.discard(entry.node)
                self._around.link.send(entry.node, offers.job_ended(self._job()))
                self._around.feed.note(self._job().id, "node_left", node=entry.name, federation=federation.id)
            elif now and not was:
                self.connected(entry.node)
        for live in list(self._live.values()):
            self.opened(live)

    def opened(self, live: LiveExchange) -> None:
        """An exchange is open: it has nothing to wait for from tenants that left."""
        for entry in self._job().roster:
            if not self._in(entry.tenant):
                words = f"tenant {entry.tenant} is not in federation {self._job().federation} any longer"
                live.node_denied(entry.node, words)

    def _in(self, tenant: TenantId) -> bool:
        return self.members is None or tenant in self.members

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
        self._around.feed.note(self._job().id, "node_denied", node=self._around.presence.name(node), denials=facts)
        if self.assembly is not None:
            self.assembly.prepared(node, denials)
            return
        for live in list(self._live.values()):
            live.node_denied(node, "; ".join(f"{d.code}: {d.message}" for d in denials))
