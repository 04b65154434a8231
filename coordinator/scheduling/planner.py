"""The scheduler that remembers: fed with events, it decides as ``decide`` does on the state it stands for."""

from __future__ import annotations

from collections.abc import Mapping

from common.ids import NodeId, TenantId
from coordinator.domain.quotas import Grant
from coordinator.scheduling import usage
from coordinator.scheduling.checks import check_ask, check_grant, check_node
from coordinator.scheduling.passes import run
from coordinator.scheduling.policies import checked
from coordinator.scheduling.records import Ask, Decision, Lease, Node, Policy, State
from coordinator.scheduling.world import World


class Planner:
    """Nodes, grants, asks and leases as they come and go, and the decisions over them."""

    def __init__(self, policy: Policy) -> None:
        self._world = World(checked(policy))

    @classmethod
    def of(cls, state: State) -> Planner:
        """Return a planner that goes on from ``state`` (a restart): nobody counts as having been away.

        Raises:
            BadInput: a part of the state is impossible.
        """
        for node in state.nodes:
            check_node(node)
        for grant in state.grants:
            check_grant(grant)
        for ask in state.asks:
            check_ask(ask)
        planner = cls(state.policy)
        planner._world = World.of(state)
        return planner

    def put_node(self, node: Node) -> None:
        """Add a node, or replace what it reported before.

        Raises:
            BadInput: its report is impossible.
        """
        check_node(node)
        self._world.put_node(node)

    def remove_node(self, node: NodeId) -> None:
        """Take away a node that is not there any more; its leases stay until they end."""
        self._world.remove_node(node)

    def put_grant(self, grant: Grant) -> None:
        """Set what a site's owner gives a tenant there.

        Raises:
            BadInput: it cannot be kept to.
        """
        check_grant(grant)
        self._world.put_grant(grant)

    def remove_grant(self, site: TenantId, tenant: TenantId) -> None:
        """Take a grant back: no guarantee, no limit, weight 1."""
        self._world.remove_grant(site, tenant)

    def add(self, ask: Ask, *, back: bool = True) -> None:
        """Let an ask wait.

        Args:
            ask: To wait.
            back: Whether its tenant, if it has nothing here, was away: then it starts level with the least active one.
                Between two rounds of a job a tenant is not away.

        Raises:
            BadInput: the ask can never mean anything, or it is running.
        """
        check_ask(ask)
        self._world.wait(ask, welcome=back)

    def withdraw(self, ask_id: str) -> None:
        """Forget an ask that still waits, if it does."""
        if ask_id in self._world.asks:
            self._world.forget(ask_id)

    def hold(self, lease: Lease) -> None:
        """Take over a lease that exists already (after a restart); its use was charged when it was granted."""
        if (lease.ask, lease.node) not in self._world.pool.leases:
            self._world.hold(lease)

    def end(self, ask_id: str, node: NodeId, now_ms: int) -> Lease | None:
        """End a lease and settle what it cost; None if there is none such."""
        lease = self._world.pool.leases.get((ask_id, node))
        if lease is not None:
            self._world.drop(lease, now_ms)
        return lease

    def decide(self, now_ms: int) -> tuple[Decision, ...]:
        """Decide, and go on from the state that follows."""
        return run(self._world, now_ms)

    def state(self) -> State:
        """Return everything the next decision depends on."""
        return self._world.state()

    def next_event_ms(self) -> int | None:
        """Return when the first lease runs out; None if there is none."""
        ends = self._world.pool.ends()
        return ends[0][0] if ends else None

    def set_policy(self, policy: Policy, now_ms: int) -> None:
        """Go on with another policy; what was used counts as it does now.

        Raises:
            BadInput: its numbers make no order.
        """
        state = self._world.state()
        self._world = World.of(usage.under(state, checked(policy), now_ms))

    def restore_use(self, use: Mapping[tuple[TenantId, TenantId], float], origin_ms: int) -> None:
        """Take over what was used before a restart."""
        self._world.restore_use(use, origin_ms)
