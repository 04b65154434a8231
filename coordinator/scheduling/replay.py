"""The journal read again: to go on after a restart, and to prove why a lease was given.

A fold makes every decision anew from what happened before it; that the rows tell the same is the proof.  Where they do
not (another release decided, or a row was changed) the recovery believes the rows, the proof says where they part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from common.errors import Corrupted
from common.ids import TenantId
from coordinator.scheduling import events as e
from coordinator.scheduling import usage
from coordinator.scheduling.decide import apply
from coordinator.scheduling.planner import Planner
from coordinator.scheduling.records import Decision, Expire, Lease, Policy, Revoke, Start, State

_EMPTY = State(Policy("fcfs"), ())


def taken_over(state: State, policy: Policy, now_ms: int) -> State:
    """Return what a new coordinator starts with: the leases, the grants and the use, under its own policy."""
    if policy.half_life_ms != state.policy.half_life_ms:
        state = usage.under(state, policy, now_ms)
    return State(policy, (), leases=state.leases, grants=state.grants, use=dict(state.use), origin_ms=state.origin_ms)


def given_up(state: State, now_ms: int) -> tuple[Lease, ...]:
    """Return the leases that ran out while no coordinator was there to be told of their end."""
    return tuple(lease for lease in state.leases if lease.until_ms <= now_ms)


def welcome(planner: Planner, tenant: TenantId, beside: Iterable[TenantId]) -> None:
    """Let a tenant that was away start level with the least of ``beside``, at each site that is there."""
    state, others = planner.state(), sorted(beside)
    use, weights = dict(state.use), {(grant.site, grant.tenant): grant.weight for grant in state.grants}
    for site in sorted({node.site for node in state.nodes}):
        active = [(other, weights.get((site, other), 1)) for other in others if (site, other) in use]
        usage.welcome(use, site, tenant, weights.get((site, tenant), 1), active)
    planner.restore_use(use, state.origin_ms)


def decided(decisions: Iterable[Decision]) -> tuple[e.Decided, ...]:
    """Return the rows of what a pass decided; reasons to wait leave none."""
    rows: list[e.Decided] = []
    for decision in decisions:
        match decision:
            case Start(ask, leases):
                rows.append(e.Started(ask.id, leases))
            case Expire(lease):
                rows.append(e.Expired(lease.ask, lease.node))
            case Revoke(lease, reason):
                rows.append(e.Revoked(lease.ask, lease.node, reason))
            case _:
                pass
    return tuple(rows)


class Fold:
    """A journal from a snapshot on.

    Args:
        base: Where it starts; None = at the very beginning.
    """

    def __init__(self, base: e.Snapshot | None) -> None:
        self._planner = Planner.of(base.state if base is not None else _EMPTY)
        self.open: list[e.Entry] = []  # of a turn whose last row has not been seen
        self.seq = base.seq if base is not None else 0
        self.at_ms = base.at_ms if base is not None else 0
        self.turn = 0
        self.parted: int | None = None  # the first row that was not decided here as it stands there

    def feed(self, entries: Sequence[e.Entry]) -> None:
        """Take further rows.

        Raises:
            Corrupted: rows are missing in between.
        """
        for turn, rows in groupby(entries, key=lambda entry: entry.turn):
            group = list(rows)
            for entry in group:
                self._count(entry)
            if turn and self.open and self.open[0].turn == turn:
                self.open += group
                continue
            self._close()
            if turn:
                self.open = group
            else:
                for entry in group:
                    self._happen(entry)

    def before_turn(self) -> State:
        """Return the state before the open turn, whose rows may not all have been seen."""
        return self._planner.state()

    def state(self) -> State:
        """Return the state behind the last row."""
        self._close()
        return self._planner.state()

    def _count(self, entry: e.Entry) -> None:
        if entry.seq != self.seq + 1:
            raise Corrupted(f"the scheduler's journal has no row {self.seq + 1} before row {entry.seq}")
        self.seq, self.at_ms, self.turn = entry.seq, entry.at_ms, max(self.turn, entry.turn)

    def _happen(self, entry: e.Entry) -> None:
        planner = self._planner
        match entry.event:
            case e.Began(policy):
                self._planner = Planner.of(taken_over(planner.state(), policy, entry.at_ms))
            case e.Came(node):
                planner.put_node(node)
            case e.Left(node_id):
                planner.remove_node(node_id)
            case e.Given(grant):
                planner.put_grant(grant)
            case e.Taken(site, tenant):
                planner.remove_grant(site, tenant)
            case e.Welcomed(tenant, beside):
                welcome(planner, tenant, beside)
            case e.Asked(ask):
                planner.add(ask, back=False)
            case e.Withdrawn(ask_id):
                planner.withdraw(ask_id)
            case e.Ended(ask_id, node_id):
                planner.end(ask_id, node_id, entry.at_ms)
            case other:
                raise Corrupted(f"row {entry.seq} of the scheduler's journal has no turn: {type(other).__name__}")

    def _close(self) -> None:
        """Make the open turn's decisions, or believe them."""
        rows, self.open = self.open, []
        if not rows:
            return
        before = self._planner.state()
        made = decided(self._planner.decide(rows[0].at_ms))
        written = tuple(row.event for row in rows)
        if made != written:
            self.parted = self.parted or rows[0].seq
            self._planner = Planner.of(_believed(before, rows))


def _believed(state: State, rows: Sequence[e.Entry]) -> State:
    """Return the state after decisions that stand in the rows, whoever would make them."""
    held = {(lease.ask, lease.node): lease for lease in state.leases}
    asks = {ask.id: ask for ask in state.asks}
    decisions: list[Decision] = []
    for row in rows:
        match row.event:
            case e.Started(ask_id, leases) if ask_id in asks:
                decisions.append(Start(asks[ask_id], leases))
            case e.Expired(ask_id, node) if (ask_id, node) in held:
                decisions.append(Expire(held[ask_id, node]))
            case e.Revoked(ask_id, node, reason) if (ask_id, node) in held:
                decisions.append(Revoke(held[ask_id, node], reason))
            case _:
                pass
    nodes = {node.id for node in state.nodes}
    known = [d for d in decisions if not isinstance(d, Start) or all(lease.node in nodes for lease in d.leases)]
    return apply(state, tuple(known), rows[0].at_ms)


def lease_id(lease: Lease) -> str:
    """Return what a lease is called on the wire, in the nodes' logs and in ``hansa queue why``."""
    return f"{lease.ask}@{lease.node}@{lease.start_ms}"


def ask_of(name: str) -> tuple[str, str, int | None]:
    """Return (ask, node, start) of a lease's id, or of an ask's: ("job_1/3", "", None)."""
    ask, _, rest = name.partition("@")
    node, _, start = rest.partition("@")
    return ask, node, int(start) if start.isdecimal() else None
