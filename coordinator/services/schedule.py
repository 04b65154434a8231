"""The scheduler, live: real events go into the planner, what it decides is told to those who asked.

Asks and ends of one turn of the loop are decided together.  Everything is journalled in the order in which the planner
saw it, so that a restart finds the same leases and an auditor can make every decision again.

Times are milliseconds since 1970 that never go back: the wall clock at the start, then the monotonic one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

import structlog

from common.clock import Clock
from common.ids import JobId, NodeId, TenantId
from coordinator.domain.denials import Denial
from coordinator.domain.quotas import Amount, Grant
from coordinator.scheduling import events as e
from coordinator.scheduling.planner import Planner
from coordinator.scheduling.records import Ask, Decision, Expire, Lease, Need, Node, Policy, Revoke, Start, State
from coordinator.scheduling.replay import welcome
from coordinator.services.leasebook import Holder, Leasebook
from coordinator.services.limits import most_at_once, over_limit
from coordinator.services.machines import total
from coordinator.services.schedule_journal import ScheduleJournal

_log = structlog.get_logger()
AWAY_S = 60.0  # a node, or a tenant, may be away so long and counts as there


class Schedule:
    """Every ask and lease of this coordinator.

    Args:
        clock: Time.
        policy: Who goes first.
        journal: Where everything is written down.
        away_s: How long a node may be away before its leases end.
    """

    def __init__(self, clock: Clock, policy: Policy, journal: ScheduleJournal, away_s: float = AWAY_S) -> None:
        self._clock, self.policy, self.journal, self._away_s = clock, policy, journal, away_s
        self._wall, self._begun = round(clock.now() * 1000), clock.monotonic()
        self._planner, self._book = Planner(policy), Leasebook()
        self._grants: dict[tuple[TenantId, TenantId], Grant] = {}
        self._sites: dict[NodeId, TenantId] = {}
        self._seen: dict[TenantId, int] = {}  # when a tenant last asked or gave back
        self._away: dict[NodeId, asyncio.TimerHandle] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None
        self._settling = self._closed = False
        self._turn = 0

    async def start(self, jobs: Iterable[JobId], grants: Iterable[Grant]) -> None:
        """Go on where the journal ends: the same leases, the same use.

        Args:
            jobs: The unfinished ones; leases of others end now.
            grants: As the sites' owners have set them.
        """
        state, self._turn, at_ms = await self.journal.load(self.policy, self.now_ms)
        self._wall += max(0, at_ms - self.now_ms)
        self._planner = Planner.of(state)
        self.journal.begin(self.state)
        self._seen = {tenant: self.now_ms for _, tenant in state.use}  # a restart of ours is no absence of theirs
        known, given = set(jobs), {(grant.site, grant.tenant): grant for grant in grants}
        for site, tenant in dict.fromkeys([*((old.site, old.tenant) for old in state.grants), *given]):
            self.granted(site, tenant, given.get((site, tenant)))
        for lease in state.leases:
            self._book.granted(lease.ask, (lease,))
        for lease in state.leases:
            if lease.job not in known:
                self.end(lease.ask, lease.node, "job_ended")
        for node in {lease.node for lease in state.leases}:
            self._wait_for(node)
        self._look_again()

    @property
    def now_ms(self) -> int:
        """Return the scheduler's time."""
        return self._wall + round((self._clock.monotonic() - self._begun) * 1000)

    def state(self) -> State:
        """Return everything that decisions depend on."""
        return self._planner.state()

    # ---- those who ask

    def ask(self, ask: Ask, holder: Holder) -> None:
        """Want leases; the same id again takes the place of what it asked before."""
        if self._closed or self._book.waiting(ask.id) == ask:
            return
        self._welcome(ask.tenant)
        self._planner.add(ask, back=False)
        self._book.wait(ask, holder)
        self._note(e.Asked(ask))

    def withdraw(self, ask: str) -> None:
        """An ask that still waits is not wanted any more."""
        if not self._closed and self._book.withdrawn(ask):
            self._planner.withdraw(ask)
            self._note(e.Withdrawn(ask))

    def end(self, ask: str, node: NodeId, reason: str) -> None:
        """Give a lease back; nothing happens if it is not held."""
        measures = self.enforcement(ask, node)
        lease = None if self._closed else self._book.over(ask, node)[0]
        if lease is not None:
            now = self.now_ms  # one reading: what was used is counted the same when it is made again
            self._planner.end(ask, node, now)
            self._seen[lease.tenant] = now
            self._note(e.Ended(ask, node, reason, measures), now)

    def enforced(self, ask: str, node: NodeId, measures: Iterable[str]) -> None:
        """A node says what holds a lease to its slice; its last word counts."""
        self._book.enforced(ask, node, measures)

    def enforcement(self, ask: str, node: NodeId) -> tuple[str, ...]:
        """Return what holds a lease to its slice, as its node says."""
        return self._book.enforcement.get((ask, node), ())

    def adopt(self, ask: str, holder: Holder) -> Mapping[NodeId, Lease]:
        """Take over the leases that an ask has held since before a restart."""
        return self._book.adopt(ask, holder)

    def release(self, job: JobId, reason: str, *, keep: Collection[str] = ()) -> None:
        """Give back what a job holds and asks for, save for the exchanges ``keep``."""

        def over(ask: str) -> bool:
            return ask not in keep and ask.rpartition("/")[0] not in keep

        for ask in self.asks_of(job):
            if over(ask.id):
                self.withdraw(ask.id)
        for lease in self.leases():
            if lease.job == job and over(lease.ask):
                self.end(lease.ask, lease.node, reason)

    # ---- those who look

    def lease(self, ask: str, node: NodeId) -> Lease | None:
        """Return the lease if it is held."""
        return self._book.lease(ask, node)

    def leases(self) -> list[Lease]:
        """Return every lease that is held."""
        return self._book.leases()

    def waits(self, ask: str) -> bool:
        """Say whether the ask has not been granted yet."""
        return self._book.waiting(ask) is not None

    def asks_of(self, job: JobId) -> list[Ask]:
        """Return what a job waits for."""
        return self._book.asks_of(job)

    def grant(self, site: TenantId, tenant: TenantId) -> Grant | None:
        """Return what a site's owner gives a tenant."""
        return self._grants.get((site, tenant))

    def most_at_once(self, tenant: TenantId, need: Need, nodes: Iterable[NodeId]) -> int:
        """Return on how many of ``nodes`` limits let the tenant have a task at one time."""
        return most_at_once([self._sites[node] for node in nodes if node in self._sites], tenant, need, self.grant)

    def over_limit(self, tenant: TenantId, need: Need, node: NodeId) -> Denial | None:
        """Return why limits never let the tenant have a task like this at ``node``, if so."""
        return over_limit(self.grant(self._sites[node], tenant), need) if node in self._sites else None

    def held(self, site: TenantId, tenant: TenantId) -> Amount:
        """Return what a tenant holds at a site now."""
        return total(lease.need for lease in self.leases() if (lease.site, lease.tenant) == (site, tenant))

    # ---- nodes and grants

    def come(self, node: Node) -> None:
        """A node is there, or lends something else than before."""
        if (timer := self._away.pop(node.id, None)) is not None:
            timer.cancel()
        if not self._closed:
            self._planner.put_node(node)
            self._sites[node.id] = node.site
            self._note(e.Came(node))

    def leave(self, node: NodeId) -> None:
        """A node is gone; its leases wait for it a while."""
        if not self._closed and node not in self._away:
            self._planner.remove_node(node)
            self._wait_for(node)
            self._note(e.Left(node))

    def granted(self, site: TenantId, tenant: TenantId, grant: Grant | None) -> None:
        """A site's owner set a grant, or took it away."""
        if self._closed:
            return
        if grant is not None:
            self._grants[site, tenant] = grant
            self._planner.put_grant(grant)
            self._note(e.Given(grant))
        else:
            self._grants.pop((site, tenant), None)
            self._planner.remove_grant(site, tenant)
            self._note(e.Taken(site, tenant))
        self._book.limits_changed(tenant)

    # ---- deciding

    def settle(self) -> None:
        """Decide now and tell; whoever is told may ask and give back at once."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._settling or self._closed:
            return
        self._settling = True
        try:
            self._decide()
        finally:
            self._settling = False
        self._watch()

    async def close(self) -> None:
        """Stop where it is: leases stay as they are, for the next coordinator."""
        self._closed = True
        for timer in (self._timer, self._soon, *self._away.values()):
            if timer is not None:
                timer.cancel()
        await self.journal.close()

    def _welcome(self, tenant: TenantId) -> None:
        """Let a tenant that was away start level with the others; between two rounds it is not away."""
        now = self.now_ms
        seen, self._seen[tenant] = self._seen.get(tenant, 0), now
        if now - seen > AWAY_S * 1000 and not self._book.has(tenant):
            recent = {other for other, at_ms in self._seen.items() if now - at_ms <= AWAY_S * 1000} - {tenant}
            beside = tuple(sorted(recent | self._book.tenants() - {tenant}))
            welcome(self._planner, tenant, beside)
            self._note(e.Welcomed(tenant, beside))

    def _decide(self) -> None:
        now = self.now_ms
        acts = [d for d in self._planner.decide(now) if isinstance(d, (Start, Expire, Revoke))]
        self._turn += bool(acts)
        for tell in [self._act(decision, now) for decision in acts]:  # after all are booked: they look at each other
            try:
                tell()
            except Exception:  # noqa: BLE001 - the guard of this loop: one round must not take the others along
                _log.exception("schedule_told_in_vain")

    def _act(self, decision: Decision, now: int) -> Callable[[], None]:
        """Book one decision; return what tells its holder."""
        match decision:
            case Start(ask, leases):
                self.journal.note(e.Started(ask.id, leases), now, self._turn)
                holder = self._book.granted(ask.id, leases)
                return (lambda: holder.on_start(leases)) if holder is not None else lambda: None
            case Expire(lease):
                self.journal.note(e.Expired(lease.ask, lease.node), now, self._turn)
                return self._lost(lease, "lease_expired")
            case Revoke(lease, reason):
                self.journal.note(e.Revoked(lease.ask, lease.node, reason), now, self._turn)
                return self._lost(lease, "lease_revoked")
            case _:
                raise TypeError(f"a wait is no act: {decision!r}")

    def _lost(self, lease: Lease, reason: str) -> Callable[[], None]:
        _, holder = self._book.over(lease.ask, lease.node)
        return (lambda: holder.on_lost(lease, reason)) if holder is not None else lambda: None

    def _wait_for(self, node: NodeId) -> None:
        self._away[node] = asyncio.get_running_loop().call_later(self._away_s, self._forfeit, node)

    def _forfeit(self, node: NodeId) -> None:
        """A node stays away: what it holds goes back."""
        del self._away[node]
        for lease in [lease for lease in self.leases() if lease.node == node]:
            holder = self._book.adopted(lease.ask)
            self.end(lease.ask, node, "node_away")
            if holder is not None:
                holder.on_lost(lease, "node_away")

    def _note(self, event: e.Event, at_ms: int | None = None) -> None:
        """Write down what happened, and look at everything again."""
        self.journal.note(event, self.now_ms if at_ms is None else at_ms, 0)
        self._look_again()

    def _look_again(self) -> None:
        if self._soon is None and not self._closed:
            self._soon = asyncio.get_running_loop().call_soon(self.settle)

    def _watch(self) -> None:
        """Come back when the next lease runs out; one timer is enough."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        first = self._planner.next_event_ms()
        if first is not None and not self._closed:
            delay = max((first - self.now_ms) / 1000, 0.01)
            self._timer = asyncio.get_running_loop().call_later(delay, self.settle)
