"""Who takes part: the nodes that could are asked, and the roster is fixed when enough have the app ready.

Waiting is never silent: each change of what is missing is told, with every denial.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence

from common.errors import NotFound, TooFewNodes
from common.ids import JobId, NodeId
from common.wire import hansa_node_pb2 as pb
from coordinator.admission.eligibility import node_denials, only_passing
from coordinator.domain.denials import Denial
from coordinator.domain.jobs import Job, RosterEntry
from coordinator.domain.nodes import Node
from coordinator.domain.tenancy import Federation
from coordinator.ports.store import Tx
from coordinator.services.around import Around
from coordinator.services.limits import limit_denials
from coordinator.services.machines import need_of

_RESERVED = 2  # Flower's SuperLink is node 1, and 0 is nobody


class Assembly:
    """Gathers the roster of one job.

    Args:
        around: Services.
        job: The job; it has no roster yet.
        question: What a node is sent to be asked.
        ready: Nodes that have the app prepared on their present connection; filled here.
        tell: Told, in one sentence, what is waited for.
        minimum: Nodes that must be in it.
    """

    def __init__(
        self,
        around: Around,
        job: Job,
        question: pb.CoordinatorEvent,
        ready: set[NodeId],
        tell: Callable[[str, Sequence[tuple[Node, Sequence[Denial]]]], Awaitable[None]],
        minimum: int,
    ) -> None:
        self._around, self._job, self._question, self._ready, self._tell = around, job, question, ready, tell
        self._minimum = minimum
        self._asked: dict[NodeId, float] = {}
        self._refused: dict[NodeId, tuple[Denial, ...]] = {}
        self.changed = asyncio.Event()

    async def gather(self) -> tuple[RosterEntry, ...]:
        """Wait until the roster can be fixed, and return it.

        Raises:
            TooFewNodes: the minimum was not reached in time.
        """
        clock, settings, spec = self._around.clock, self._around.settings, self._job.spec
        begun = last_news = clock.monotonic()
        known: frozenset[NodeId] = frozenset()
        told = ""
        while True:
            self.changed.clear()
            nodes = await self._candidates()
            now = clock.monotonic()
            here = frozenset(n.id for n, _ in nodes if n.id in self._ready)
            if here != known:
                known, last_news = here, now
            pending = [n for n, d in nodes if not d and n.id not in self._ready]
            absent = [n for n, d in nodes if d and only_passing(d)]
            enough = len(here) >= self._minimum
            calm = not absent or now >= max(last_news + settings.settle_s, self._all_back())
            if enough and not self._still_preparing(pending, now) and calm:
                return roster_of(self._job.id, [n for n, _ in nodes if n.id in here])
            sentence = self._sentence(len(here), nodes)
            if not enough and sentence != told and now - begun >= settings.settle_s:
                await self._tell(sentence, [(n, d) for n, d in nodes if d])
                told = sentence
            if not enough and now - begun >= spec.wait_s:
                raise TooFewNodes(sentence, next_step=f"hansa explain {self._job.id}")
            await self._pause(now, begun, last_news, enough=enough)

    def prepared(self, node: NodeId, denials: tuple[Denial, ...]) -> None:
        """A node has answered."""
        self._refused[node] = denials
        self.changed.set()

    def forget(self, node: NodeId, *, refusal: bool = True) -> None:
        """A node went, or said something new of itself: ask it again."""
        self._asked.pop(node, None)
        if refusal:
            self._refused.pop(node, None)
        self.changed.set()

    async def _candidates(self) -> list[tuple[Node, tuple[Denial, ...]]]:
        """Return every node of the federation with what stands against it; those with nothing are asked."""
        federation, nodes = await self._around.store.read(lambda tx: federation_nodes(tx, self._job))
        found = []
        for node in nodes:
            denials = self._denials(node, federation)
            if not denials and node.id not in self._asked and self._around.link.send(node.id, self._question):
                self._asked[node.id] = self._around.clock.monotonic()
            found.append((node, denials))
        return found

    def _denials(self, node: Node, federation: Federation) -> tuple[Denial, ...]:
        presence = self._around.presence
        denials = node_denials(
            node,
            federation,
            self._job.app,
            self._job.spec,
            connected=presence.here(node.id),
            offline_since=presence.since(node),
        )
        spec = self._job.spec
        denials += limit_denials(node, self._job.tenant, need_of(spec), self._around.schedule.grant)
        return denials or self._refused.get(node.id, ())

    def _all_back(self) -> float:
        """Return when a node that was connected before we were restarted would be back, if it still ran."""
        return self._around.presence.started + self._around.settings.return_s

    def _still_preparing(self, pending: Sequence[Node], now: float) -> bool:
        patience = self._around.settings.prepare_s
        return any(now - self._asked.get(node.id, now) < patience for node in pending)

    def _sentence(self, count: int, nodes: Sequence[tuple[Node, Sequence[Denial]]]) -> str:
        minimum = self._minimum
        words = [d.message for _, denials in nodes for d in denials[:1]]
        words += [f"{n.name} prepares" for n, denials in nodes if not denials and n.id not in self._ready]
        missing = max(minimum - count, 0)
        return f"waiting for {missing} more of {minimum}: {'; '.join(words) or 'no other node is in the federation'}"

    async def _pause(self, now: float, begun: float, last_news: float, *, enough: bool) -> None:
        settings = self._around.settings
        ends = [begun + settings.settle_s, last_news + settings.settle_s, now + settings.prepare_s, self._all_back()]
        ends += [at + settings.prepare_s for at in self._asked.values()]
        if not enough:
            ends.append(begun + self._job.spec.wait_s)
        later = [end for end in ends if end > now]
        try:
            async with asyncio.timeout(min(later) - now):
                await self.changed.wait()
        except TimeoutError:
            return


def federation_nodes(tx: Tx, job: Job) -> tuple[Federation, list[Node]]:
    """Return the job's federation and the nodes of the tenants that accepted it.

    Raises:
        NotFound: the federation is gone.
    """
    federation = tx.tenants.federation(job.federation)
    if federation is None:
        raise NotFound(f"no federation {job.federation}")
    return federation, sorted(tx.nodes.list(federation.accepted), key=_by_name)


def roster_of(job: JobId, nodes: Sequence[Node]) -> tuple[RosterEntry, ...]:
    """Return the fixed roster: partitions by name, ids that are the same after every restart."""
    return tuple(
        RosterEntry(node.id, node.tenant, node.name, flower_node_id(job, node.id), partition)
        for partition, node in enumerate(sorted(nodes, key=_by_name))
    )


def flower_node_id(job: JobId, node: NodeId) -> int:
    """Return the node's id inside the job: 63 bits, none of Flower's reserved ones."""
    value = int.from_bytes(hashlib.sha256(f"{job}/{node}".encode()).digest()[:8], "big") >> 1
    return max(value, _RESERVED)


def _by_name(node: Node) -> tuple[str, str, str]:
    return (node.name, node.tenant, node.id)
