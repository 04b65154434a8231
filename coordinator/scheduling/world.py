"""Everything a decision depends on, kept so that the next is cheap: who waits, for which nodes, with what claims."""

from __future__ import annotations

from collections.abc import Mapping

from common.errors import BadInput
from common.ids import NodeId, TenantId
from coordinator.domain.quotas import Grant
from coordinator.scheduling.accounts import Accounts
from coordinator.scheduling.line import BORROWS, INSIDE, Key, Line, Queue
from coordinator.scheduling.pool import Pool
from coordinator.scheduling.reach import Reach, Reaches
from coordinator.scheduling.records import Ask, Lease, Node, Policy, State
from coordinator.scheduling.stock import Ints, Task


class World:
    """Nodes, asks, leases, grants and use; each change touches only what depends on it."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.pool = Pool()
        self.reaches = Reaches(self.pool)
        self.accounts = Accounts(policy)
        self.line = Line(policy)
        self.asks: dict[str, tuple[Ask, Queue]] = {}
        self._stale: set[TenantId] = set()  # tenants whose keys must be worked out again

    @classmethod
    def of(cls, state: State) -> World:
        """Return the world that ``state`` describes."""
        world = cls(state.policy)
        for node in state.nodes:
            world.put_node(node)
        for grant in state.grants:
            world.put_grant(grant)
        world.accounts.start_from(state.use, state.origin_ms)
        for lease in state.leases:
            world.hold(lease)
        for ask in state.asks:
            world.wait(ask)
        return world

    def state(self) -> State:
        """Return the state that this world stands for."""
        grants = (grant for mine in self.accounts.grants.values() for grant in mine.values())
        return State(
            self.policy,
            tuple(node for node in self.pool.nodes if node is not None),
            tuple(ask for ask, _ in self.asks.values()),
            tuple(self.pool.leases.values()),
            tuple(grants),
            dict(self.accounts.use),
            self.accounts.origin_ms,
        )

    # -- nodes and grants

    def put_node(self, node: Node) -> None:
        """Let a node be there, with what it reports now."""
        row = self.pool.row.get(node.id)
        if row is not None:
            if self.pool.nodes[row] == node:
                return
            self.remove_node(node.id)
        self.reaches.node_came(self.pool.put(node))
        self._stale |= self.accounts.granted_at.get(node.site, set())

    def remove_node(self, node: NodeId) -> None:
        """Let a node be gone; the leases on it stay held."""
        row = self.pool.row.get(node)
        if row is not None:
            self._stale |= self.accounts.granted_at.get(self.pool.site_names[self.pool.site[row]], set())
            self.pool.remove(node)
            self.reaches.node_left(row)

    def put_grant(self, grant: Grant) -> None:
        """Let a grant be in force."""
        self.accounts.put(grant)
        self._stale.add(grant.tenant)

    def remove_grant(self, site: TenantId, tenant: TenantId) -> None:
        """Let a grant be no more."""
        self.accounts.remove(site, tenant)
        self._stale.add(tenant)

    # -- asks and leases

    def wait(self, ask: Ask, *, welcome: bool = False) -> None:
        """Let an ask wait; one of the same id is replaced.

        Args:
            ask: To wait.
            welcome: Whether its tenant, if it is new here, starts level with the least active one.

        Raises:
            BadInput: leases of an ask of this id are running.
        """
        if ask.id in self.pool.running:
            raise BadInput(f"ask {ask.id[:60]!r} is running already")
        if ask.id in self.asks:
            self.forget(ask.id)
        reach = self.reaches.join(ask)
        queue, made = self.line.queue(ask, reach)
        if not made:
            self.reaches.leave(reach)
        if welcome and self.policy.fair:
            self._welcome(ask, reach)
        self.line.push(queue, ask)
        self._stale.add(ask.tenant)
        self.asks[ask.id] = (ask, queue)

    def forget(self, ask_id: str) -> bool:
        """Let an ask wait no more; tell whether its queue is gone with it."""
        ask, queue = self.asks.pop(ask_id)
        gone = self.line.remove(queue, ask)
        if gone:
            self.reaches.leave(queue.reach)
        return gone

    def hold(self, lease: Lease) -> None:
        """Let a lease be held that was charged before."""
        self.pool.give(lease)
        self.accounts.hold(lease)
        self._stale.add(lease.tenant)

    def start(self, leases: list[Lease], task: Task, rows: Ints, columns: Ints, mib: Ints) -> None:
        """Let the leases of an ask start, and charge them."""
        self.pool.start(leases, task, rows, columns, mib)
        self.accounts.start(leases)
        self._stale.add(leases[0].tenant)

    def drop(self, lease: Lease, end_ms: int) -> None:
        """Let a lease end, and settle it."""
        self.pool.drop(lease)
        self.accounts.hold(lease, -1)
        self.accounts.settle(lease, end_ms)
        self._stale.add(lease.tenant)

    def restore_use(self, use: Mapping[tuple[TenantId, TenantId], float], origin_ms: int) -> None:
        """Let this be what was used so far."""
        self.accounts.start_from(use, origin_ms)
        self._stale.update(self.line.of)

    def _welcome(self, ask: Ask, reach: Reach) -> None:
        if any(other.asks for other in self.line.of[ask.tenant].values()):
            return  # it waits already
        accounts = self.accounts
        waiting = {queue.tenant: queue for queue in self.line.queues.values() if queue.asks}
        for site in reach.sites:
            there = {t for t in waiting if any(site in q.reach.sites for q in self.line.of[t].values())}
            there |= {t for t, held in accounts.held.items() if site in held and any(held[site].values())}
            if ask.tenant not in there:
                active = [(t, accounts.weight(site, t)) for t in there]
                accounts.welcome(site, ask.tenant, active)

    # -- keys

    def key(self, queue: Queue, least_rank: int = INSIDE) -> Key:
        """Return the key of a queue's head as things stand now."""
        rank, share, _ = self._claim(queue)
        head_slack, submit_ms, ask_id, _ = queue.asks[0]
        return (max(rank, least_rank), share, head_slack, submit_ms, ask_id)

    def rebase(self, now_ms: int, *, idle: bool) -> None:
        """Move the origin of what was used on, if that is due (see ``usage.is_due``)."""
        if self.accounts.rebase(now_ms, idle=idle):
            self._stale.update(self.line.of)

    def refresh(self) -> None:
        """Bring counts and keys up to date, before asks are compared."""
        self.reaches.follow()
        if self.reaches.moved:
            self._stale.update(q.tenant for q in self.line.queues.values() if q.reach.number in self.reaches.moved)
        line = self.line
        for tenant in self._stale:
            for queue in line.of.get(tenant, {}).values():
                row = queue.row
                line.rank[row], line.share[row], line.barred[row] = self._claim(queue)
        self._stale.clear()
        self.reaches.moved.clear()

    def _claim(self, queue: Queue) -> tuple[int, float, int]:
        """Return a queue's rank and share, and how many nodes the limits bar to it."""
        tenant, _, m, _ = queue.name
        sites = queue.reach.sites
        guaranteed, barred = self.accounts.claim(tenant, sites, queue.reach.key[0])
        return INSIDE if guaranteed >= m else BORROWS, self.accounts.share(tenant, sites), barred
