"""The scheduler that remembers: fed with events, it decides as ``decide`` does on the state it stands for."""

from __future__ import annotations

from common.ids import NodeId, TenantId
from coordinator.scheduling import usage
from coordinator.scheduling.checks import check_ask, check_grant, check_node
from coordinator.scheduling.decide import apply, decide
from coordinator.scheduling.policies import checked
from coordinator.domain.quotas import Grant
from coordinator.scheduling.records import Ask, Decision, Lease, Node, Policy, State


class Planner:
    """Nodes, grants, asks and leases as they come and go, and the decisions over them."""

    def __init__(self, policy: Policy) -> None:
        self._policy = checked(policy)
        self._nodes: dict[NodeId, Node] = {}
        self._grants: dict[tuple[TenantId, TenantId], Grant] = {}
        self._asks: dict[str, Ask] = {}
        self._leases: dict[tuple[str, NodeId], Lease] = {}
        self._use: usage.Use = {}
        self._origin_ms = 0

    @classmethod
    def of(cls, state: State) -> Planner:
        """Return a planner that goes on from ``state`` (a restart): nobody counts as having been away."""
        planner = cls(state.policy)
        for node in state.nodes:
            planner.put_node(node)
        for grant in state.grants:
            planner.put_grant(grant)
        for lease in state.leases:
            planner.hold(lease)
        for ask in state.asks:
            check_ask(ask)
            planner._asks[ask.id] = ask
        planner._use, planner._origin_ms = dict(state.use), state.origin_ms
        return planner

    def put_node(self, node: Node) -> None:
        """Add a node, or replace what it reported before."""
        check_node(node)
        self._nodes[node.id] = node

    def remove_node(self, node: NodeId) -> None:
        """Take away a node that is not there any more; its leases stay until they end."""
        self._nodes.pop(node, None)

    def put_grant(self, grant: Grant) -> None:
        """Set what a site's owner gives a tenant there."""
        check_grant(grant)
        self._grants[grant.site, grant.tenant] = grant

    def remove_grant(self, site: TenantId, tenant: TenantId) -> None:
        """Take a grant back: no guarantee, no limit, weight 1."""
        self._grants.pop((site, tenant), None)

    def add(self, ask: Ask) -> None:
        """Let an ask wait; a tenant that comes back to a site starts level with the least active one there.

        Raises:
            BadInput: the ask can never mean anything.
        """
        check_ask(ask)
        if self._policy.fair:
            self._welcome(ask)
        self._asks[ask.id] = ask

    def withdraw(self, ask_id: str) -> None:
        """Forget an ask that still waits."""
        self._asks.pop(ask_id, None)

    def hold(self, lease: Lease) -> None:
        """Take over a lease that exists already (after a restart); its use was charged when it was granted."""
        self._leases[lease.ask, lease.node] = lease

    def end(self, ask_id: str, node: NodeId, now_ms: int) -> Lease | None:
        """End a lease and settle what it cost; None if there is none such."""
        lease = self._leases.pop((ask_id, node), None)
        if lease is not None:
            usage.settle(self._use, self._policy, self._origin_ms, lease, now_ms)
        return lease

    def decide(self, now_ms: int) -> tuple[Decision, ...]:
        """Decide, and go on from the state that follows."""
        decisions = decide(self.state(), now_ms)
        after = apply(self.state(), decisions, now_ms)
        self._asks = {ask.id: ask for ask in after.asks}
        self._leases = {(lease.ask, lease.node): lease for lease in after.leases}
        self._use, self._origin_ms = dict(after.use), after.origin_ms
        return decisions

    def state(self) -> State:
        """Return everything the next decision depends on."""
        return State(
            self._policy,
            tuple(self._nodes.values()),
            tuple(self._asks.values()),
            tuple(self._leases.values()),
            tuple(self._grants.values()),
            dict(self._use),
            self._origin_ms,
        )

    def next_event_ms(self) -> int | None:
        """Return when the first lease runs out; None if there is none."""
        return min((lease.until_ms for lease in self._leases.values()), default=None)

    def set_policy(self, policy: Policy) -> None:
        """Go on with another policy; what was used stays."""
        self._policy = checked(policy)

    def restore_use(self, use: usage.Use, origin_ms: int) -> None:
        """Take over what was used before a restart."""
        self._use, self._origin_ms = dict(use), origin_ms

    def _welcome(self, ask: Ask) -> None:
        holders = {(lease.site, lease.tenant) for lease in self._leases.values()}
        waiting = {other.tenant for other in self._asks.values()}
        if ask.tenant in waiting:
            return
        for site in sorted({n.site for n in self._nodes.values() if ask.candidates is None or n.id in ask.candidates}):
            others = {t for s, t in holders if s == site} | waiting
            if ask.tenant not in others:
                active = [(t, self._weight(site, t)) for t in others]
                usage.welcome(self._use, site, ask.tenant, self._weight(site, ask.tenant), active)

    def _weight(self, site: TenantId, tenant: TenantId) -> int:
        grant = self._grants.get((site, tenant))
        return 1 if grant is None else grant.weight
