"""A state that is being changed by the reference decision: plain dictionaries, nothing remembered."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from common.ids import NodeId, TenantId
from coordinator.scheduling import usage
from coordinator.scheduling.quota import Held, parts
from coordinator.scheduling.records import (
    Ask,
    Lease,
    Need,
    Node,
    State,
)
from tests.property.scheduling_machine import Free, after, place

Shape = tuple[Need, tuple[NodeId, ...] | None, frozenset[str], int, int]
Key = tuple[int, float, float, int, str]


def expected_ms(ask: Ask) -> int:
    """Return what is charged at grant: the estimate within the bound; an ask that does not say is charged the bound."""
    return min(ask.est_ms, ask.bound_ms) or ask.bound_ms


def shape(ask: Ask) -> Shape:
    """Return what decides whether an ask fits: when one of a tenant's fails, its equals fail too."""
    return ask.need, ask.candidates, ask.labels, ask.m, ask.bound_ms


@dataclass(slots=True)
class Reservation:
    """Nodes kept for an ask from a time on."""

    ask: Ask
    at_ms: int
    beyond: dict[NodeId, Free]  # what is free there from then on, beside the reserved tasks
    sites: Counter[TenantId]  # tasks by site


@dataclass(slots=True)
class World:
    """A state that is being changed by a decision in the making."""

    state: State
    now_ms: int
    nodes: dict[NodeId, Node] = field(init=False)
    free: dict[NodeId, Free] = field(init=False)
    leases: dict[tuple[str, NodeId], Lease] = field(init=False)
    asks: dict[str, Ask] = field(init=False)
    held: dict[tuple[TenantId, TenantId], Held] = field(init=False)
    use: usage.Use = field(init=False)
    origin_ms: int = field(init=False)

    def __post_init__(self) -> None:
        state = self.state
        self.nodes = {node.id: node for node in sorted(state.nodes, key=lambda n: n.id)}
        self.leases = {(lease.ask, lease.node): lease for lease in state.leases}
        on: dict[NodeId, list[Lease]] = defaultdict(list)
        self.held = defaultdict(Counter)
        for lease in state.leases:
            on[lease.node].append(lease)
            self._hold(lease, 1)
        self.free = {node.id: after(node, on[node.id]) for node in state.nodes}
        self.asks = {ask.id: ask for ask in state.asks}
        self.use, self.origin_ms = usage.rebased(state.use, state.policy, state.origin_ms, self.now_ms, idle=True)

    def grant(self, site: TenantId, tenant: TenantId):
        for grant in self.state.grants:
            if grant.site == site and grant.tenant == tenant:
                return grant
        return None

    def _hold(self, lease: Lease, sign: int) -> None:
        for part, each in parts(lease.need):
            self.held[lease.site, lease.tenant][part] += sign * each

    def give(self, lease: Lease) -> None:
        self.leases[lease.ask, lease.node] = lease
        self.asks.pop(lease.ask, None)
        self.free[lease.node].take(lease.need, lease.slices)
        self._hold(lease, 1)
        self.origin_ms = usage.first_origin(self.use, self.state.policy, self.origin_ms, lease.start_ms)
        usage.charge(self.use, self.state.policy, self.origin_ms, lease)

    def drop(self, lease: Lease, end_ms: int) -> None:
        del self.leases[lease.ask, lease.node]
        if lease.node in self.free:
            self.free[lease.node].take(lease.need, lease.slices, -1)
        self._hold(lease, -1)
        self.origin_ms = usage.first_origin(self.use, self.state.policy, self.origin_ms, lease.start_ms)
        usage.settle(self.use, self.state.policy, self.origin_ms, lease, end_ms)


def able(w: World, ask: Ask) -> list[Node]:
    """Return the nodes that could serve the ask if nothing ran there."""
    return [
        node
        for node in w.nodes.values()
        if (ask.candidates is None or node.id in ask.candidates)
        and ask.labels <= node.labels
        and place(node, after(node, ()), ask.need) is not None
    ]


def scarcity(w: World) -> Counter[NodeId]:
    """Return what each node is worth: the fewer nodes a waiting kind of ask can use, the more it needs each of them."""
    worth: Counter[NodeId] = Counter()
    for reach in {(a.need, a.candidates, a.labels): a for a in w.asks.values()}.values():
        nodes = able(w, reach)
        for node in nodes:
            worth[node.id] += (1 << 20) // len(nodes)
    return worth
