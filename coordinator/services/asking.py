"""What one exchange wants of the scheduler.

An exchange is one ask: at least m of n nodes, all or nothing.  Who was away, failed or comes back joins by an ask of
its own, with the job's key.  Where the job declares a target, nodes that the round started without are spares: one is
asked only when another falls out.  Pushed messages go each by itself.

A node is offered a task only under a lease; a lease that is held, also one from before a restart, is used to its end.
"""

from __future__ import annotations

from collections.abc import Iterable

from common.ids import NodeId, task_id
from coordinator.domain.exchanges import ExchangeKind
from coordinator.rounds.slots import OPEN, SlotEvent, SlotState
from coordinator.scheduling.records import Lease
from coordinator.services.asker import Asker
from coordinator.services.estimates import Estimates
from coordinator.services.leasebook import Holder
from coordinator.services.machines import need_of
from coordinator.services.schedule import Schedule

_LEAST_S = 1.0  # a lease that ends sooner is not worth an offer


class Asking:
    """The asks and leases of one exchange or push.

    Args:
        schedule: Who decides.
        estimates: What rounds take.
        asker: The exchange.
    """

    def __init__(self, schedule: Schedule, estimates: Estimates, asker: Asker) -> None:
        self._schedule, self._estimates, self._asker = schedule, estimates, asker
        self._job, self._seq, self._call = asker.job, asker.seq, asker.call
        self._round, self._ready = asker.round, asker.ready
        self._kind = asker.call.message_type
        self._holder = Holder(self._started, self._ended, self._limits_changed)
        self._cutoff_s: float | None = None
        self._wanted, self._admitted = 1, 1
        self._gang: dict[NodeId, int] = {}  # the first message to each node; further ones go each by itself
        if self._call.kind is ExchangeKind.EXCHANGE:
            for slot in sorted(self._round.slots, reverse=True):
                self._gang[self._round.slots[slot].node] = slot
        self.started = not self._gang  # whether the round has got its nodes
        self._offered: set[int] = set()
        self._open = False

    @property
    def id(self) -> str:
        """Return the id of the round's ask."""
        return f"{self._job.id}/{self._seq}"

    @property
    def queued(self) -> bool:
        """Say whether it is the scheduler that is waited for: the round's time does not run meanwhile."""
        if self._gang:
            return not self.started and self._count(SlotState.INCLUDED) + len(self._here()) >= self._round.minimum
        return any(self._schedule.waits(self._task(slot)) for slot in self._round.slots)

    @property
    def words(self) -> str:
        """Return that it waits in the queue, for people."""
        if self._gang and self._admitted < self._wanted:
            return f"queued until limits admit {self._wanted} of its nodes: hansa queue why {self.id}"
        return f"queued until {self._wanted} of its nodes are free: hansa queue why {self.id}"

    def waits_for(self, slot: int) -> str:
        """Return what a slot waits for that has not been offered, for people."""
        if self._round.slots[slot].node not in self._ready:
            return "getting the app ready"
        if self._schedule.waits(self._task(slot)):
            return f"queued: hansa queue why {self._task(slot)}"
        return "not needed yet" if self.spare(slot) else "not asked yet"

    def spare(self, slot: int) -> bool:
        """Say whether the round started without this slot and never needed it."""
        state = self._round.slots[slot]
        waits = state.state is SlotState.PENDING and slot not in self._offered
        return bool(self._target) and self.started and waits

    def open(self) -> None:
        """Ask; after a restart: go on with the leases that are held."""
        self._open = True
        held = self._schedule.adopt(self.id, self._holder)
        single = {slot: self._schedule.adopt(self._task(slot), self._holder) for slot in self._round.slots}
        if self._gang and (held or any(single.values())):
            self.started = True
        if not self.started:
            self._ask_round()
        for slot in self._round.slots:
            self._serve(slot)
        self._fill()

    def node_ready(self, node: NodeId) -> None:
        """A node can be offered what it has not answered."""
        for slot in self._open_slots(node):
            self._serve(slot)
        self._again()

    def node_gone(self, node: NodeId) -> None:
        """A node went away: what it holds waits for it, what it waits for does not."""
        for slot in self._open_slots(node):
            self._schedule.withdraw(self._task(slot))
        self._again()

    def enforced(self, slot: int, measures: Iterable[str]) -> None:
        """The node says what holds the slot's lease to its slice."""
        lease = self.lease(slot)
        if lease is not None:
            self._schedule.enforced(lease.ask, lease.node, measures)

    def over(self, slot: int, reason: str) -> None:
        """A task is at its end, or its work is done: its lease goes back."""
        self._give_back(slot, reason)
        self._again()

    def retry(self, slot: int) -> None:
        """A task failed by an accident and is tried again under a lease of its own."""
        self._give_back(slot, "failed")
        self._serve(slot)
        self._again()

    def close(self, reason: str) -> None:
        """Give everything back."""
        self._open = False
        self._schedule.withdraw(self.id)
        for slot in self._round.slots:
            self._give_back(slot, reason)

    def lease(self, slot: int) -> Lease | None:
        """Return the lease that a slot holds."""
        node = self._round.slots[slot].node
        alone = self._schedule.lease(self._task(slot), node)
        if alone is not None or self._gang.get(node) != slot:
            return alone
        return self._schedule.lease(self.id, node)

    # ---- what the scheduler says

    def _started(self, leases: tuple[Lease, ...]) -> None:
        first = not self.started or not self._gang
        self.started = True
        if first:
            self._asker.begun(self._cutoff_s)
        for lease in leases:
            slot = self._slot_of(lease)
            if self._open and self._round.slots[slot].state in OPEN and lease.node in self._ready:
                self._send(slot, lease)
            elif not self._open or self._round.slots[slot].state not in OPEN:
                self._schedule.end(lease.ask, lease.node, "not_needed")
        if first and self._gang and not self._target:
            for slot in self._gang.values():  # whom limits did not let start with the others
                if self.lease(slot) is None:
                    self._serve(slot)
        elif first:
            self._fill()

    def _ended(self, lease: Lease, reason: str) -> None:
        slot = self._slot_of(lease)
        if self._open and self._round.slots[slot].state in OPEN:
            self._asker.lost(slot, reason)

    def _limits_changed(self) -> None:
        """What waits is asked again, as limits are now."""
        if self._open:
            for slot in self._round.slots:
                if self._schedule.waits(self._task(slot)):
                    self._ask_alone(slot)
            self._again()

    # ---- what is asked

    def _again(self) -> None:
        if self._open and not self.started:
            self._ask_round()
        else:
            self._fill()

    def _serve(self, slot: int) -> None:
        """Let a slot go on under the lease that it holds, or ask for one."""
        state = self._round.slots[slot]
        if not self._open or state.state not in OPEN or state.node not in self._ready:
            return
        lease = self.lease(slot)
        if lease is not None and lease.until_ms - self._schedule.now_ms >= _LEAST_S * 1000:
            self._send(slot, lease)
        elif (self.started or self._gang.get(state.node) != slot) and not self.spare(slot):
            self._give_back(slot, "used_up")
            self._ask_alone(slot)

    def _fill(self) -> None:
        """Ask spares in the place of those who fell out."""
        if not (self._open and self.started and self._target):
            return
        slots = sorted(self._round.slots)
        alive = self._count(SlotState.INCLUDED) + sum(1 for slot in slots if self._at_it(slot))
        for slot in slots:
            state = self._round.slots[slot]
            if alive >= self._target:
                return
            if state.state is SlotState.PENDING and state.node in self._ready and not self._at_it(slot):
                self._ask_alone(slot)
                alive += self._at_it(slot)

    def _ask_round(self) -> None:
        here, now = self._here(), self._schedule.now_ms
        included = self._count(SlotState.INCLUDED)
        most = self._schedule.most_at_once(self._job.tenant, need_of(self._job.spec), here)
        wanted = self._target - included if self._target else len(here)
        if most < len(here):
            wanted = min(wanted, most)  # the others follow one by one
        m = max(wanted, self._round.minimum - included, 1)
        bound_s = self._asker.time_s()
        n, chosen = len(here), None
        if self._target:
            chosen = self._estimates.selection(self._job, self._kind, here, m, bound_s)
            n = chosen.n if chosen is not None else n
        self._cutoff_s = chosen.cutoff_s if chosen is not None else None
        self._wanted, self._admitted = m, most if most < len(here) else m
        self._schedule.ask(
            self._estimates.ask(self._job, self._kind, self.id, (m, n, here), bound_s, now), self._holder
        )

    def _ask_alone(self, slot: int) -> None:
        node, now = self._round.slots[slot].node, self._schedule.now_ms
        barred = self._schedule.over_limit(self._job.tenant, need_of(self._job.spec), node)
        if barred is not None:  # it would wait for ever
            self._asker.ended(slot, SlotEvent.DENY, barred.code, f"{barred.message}; {barred.next_step}")
            return
        left_s = max(self._asker.left_s(), _LEAST_S)
        ask = self._estimates.ask(self._job, self._kind, self._task(slot), (1, 1, [node]), left_s, now)
        self._schedule.ask(ask, self._holder)

    def _send(self, slot: int, lease: Lease) -> None:
        self._offered.add(slot)
        self._asker.offer(slot, lease)

    def _give_back(self, slot: int, reason: str) -> None:
        self._schedule.withdraw(self._task(slot))
        lease = self.lease(slot)
        if lease is not None:
            self._schedule.end(lease.ask, lease.node, reason)

    # ---- facts

    @property
    def _target(self) -> int:
        return self._round.terms.target if self._gang and not self._call.by_hand else 0

    def _here(self) -> list[NodeId]:
        """Return the nodes of the round that could start now."""
        slots = self._round.slots
        return sorted(node for node, slot in self._gang.items() if node in self._ready and slots[slot].state in OPEN)

    def _at_it(self, slot: int) -> bool:
        state = self._round.slots[slot]
        if state.state not in OPEN:
            return False
        done = state.state is SlotState.READY  # it only has to be sent
        return done or self.lease(slot) is not None or self._schedule.waits(self._task(slot))

    def _count(self, state: SlotState) -> int:
        return sum(1 for slot in self._round.slots.values() if slot.state is state)

    def _open_slots(self, node: NodeId) -> list[int]:
        return [s for s, slot in self._round.slots.items() if slot.node == node and slot.state in OPEN]

    def _slot_of(self, lease: Lease) -> int:
        return self._gang[lease.node] if lease.ask == self.id else int(lease.ask.rpartition("/")[2])

    def _task(self, slot: int) -> str:
        return task_id(self._job.id, self._seq, slot)
