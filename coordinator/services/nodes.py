"""Who is connected, what each node last said of itself, and since when the others are away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from common.clock import Clock, iso
from common.ids import NodeId, TenantId
from coordinator.domain.nodes import Node, NodeReport
from coordinator.ports.store import Store, Tx


class Presence:
    """The nodes as this process sees them; what they said is kept in the store too."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._started = (clock.monotonic(), _for_people(clock.now()))
        self._here: dict[NodeId, NodeReport] = {}
        self._left: dict[NodeId, tuple[float, str]] = {}
        self._known: dict[NodeId, Node] = {}  # as it was when it last reported

    @property
    def started(self) -> float:
        """Return when this process began to look, on the monotonic clock."""
        return self._started[0]

    async def came(self, node: NodeId, report: NodeReport) -> None:
        """A node's stream opened."""
        self._here[node] = report
        self._left.pop(node, None)
        await self._keep(node, report)

    async def reported(self, node: NodeId, report: NodeReport) -> None:
        """A node said something new of itself."""
        before = self._here.get(node)
        if before is not None:
            report = replace(report, release=before.release, skew_s=before.skew_s)
        self._here[node] = report
        await self._keep(node, report)

    async def left(self, node: NodeId) -> None:
        """A node's stream ended."""
        report = self._here.pop(node, None)
        self._left[node] = (self._clock.monotonic(), _for_people(self._clock.now()))
        await self._keep(node, report)

    def here(self, node: NodeId) -> bool:
        """Say whether the node is connected."""
        return node in self._here

    def tenant(self, node: NodeId) -> TenantId | None:
        """Return whose node it is; None if it was never connected here."""
        known = self._known.get(node)
        return known.tenant if known is not None else None

    def name(self, node: NodeId) -> str:
        """Return a node's name; its id if it was never connected here."""
        known = self._known.get(node)
        return known.name if known is not None else node

    def slots(self, node: NodeId) -> int:
        """Return how many tasks the node runs at once; 0 when it is away."""
        report = self._here.get(node)
        return report.slots if report is not None else 0

    def away(self, nodes: Iterable[NodeId]) -> Mapping[NodeId, tuple[float, str]]:
        """Return those that are not connected: (since when on the monotonic clock, the same for people)."""
        return {node: self._left.get(node, self._started) for node in nodes if node not in self._here}

    def since(self, node: Node) -> str:
        """Return since when a node is away, for people; "" when it is not known."""
        if node.id in self._left:
            return self._left[node.id][1]
        return _for_people(node.seen_at) if node.seen_at is not None else ""

    async def _keep(self, node: NodeId, report: NodeReport | None) -> None:
        now = self._clock.now()

        def work(tx: Tx) -> Node | None:
            record = tx.nodes.get(node)
            if record is None:
                return None
            tx.nodes.put(replace(record, seen_at=now, report=report or record.report))
            return record

        known = await self._store.write(work)
        if known is not None:
            self._known[node] = known


def _for_people(at: float) -> str:
    return iso(at)[11:16] + " UTC"
