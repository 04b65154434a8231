"""A scheduler that forgets, and the part of a live exchange that asks it."""

import math

from common.clock import ManualClock
from common.jobspec import Cohort, JobSpec
from coordinator.domain.exchanges import ExchangeKind, Instruction
from coordinator.domain.jobs import Job, JobState
from coordinator.rounds.exchange import Terms, new_round
from coordinator.rounds.slots import SlotEvent
from coordinator.scheduling.policies import named
from coordinator.scheduling.records import Node, Policy, State
from coordinator.services.asking import Asking
from coordinator.services.calls import Call
from coordinator.services.estimates import Estimates
from coordinator.services.schedule import Schedule


class NoJournal:
    """Forgets everything; what was there before a restart is given."""

    def __init__(self, state=None):
        self.state = state or State(Policy("fcfs"), ())

    async def load(self, policy, now_ms):
        return self.state, 0, now_ms

    def begin(self, _):
        pass

    def note(self, *_):
        pass

    async def close(self):
        pass


class World:
    def __init__(self, state=None):
        self.clock, self.estimates = ManualClock(), Estimates()
        self.schedule = Schedule(self.clock, named("fcfs"), NoJournal(state))

    async def start(self, names="abc", grants=(), jobs=("job_1",)):
        await self.schedule.start(jobs, grants)
        for name in names:
            self.schedule.come(Node(name, "north", 64_000, 1 << 20, 1))
        return self

    def exchange(self, nodes="abc", *, job="job_1", target=0, minimum=1, kind=ExchangeKind.EXCHANGE, ready=None):
        return Exchange(self, nodes, job, target, minimum, kind, set(nodes if ready is None else ready))


class Exchange:
    """The part of a live exchange that asks."""

    def __init__(self, world, nodes, job, target, minimum, kind, ready):
        spec = JobSpec("app", "s:a", "c:a", {}, cohort=Cohort(minimum, target), deadline_s=100)
        self.job = Job(job, "north", "fed", "me", "a" * 64, "b" * 64, spec, 1, 2, JobState.RUNNING, "", "", 0.0)
        instructions = tuple(Instruction(i, node, "train", "c" * 64, 1, "", 0) for i, node in enumerate(nodes))
        self.call = Call(kind, True, "", math.inf, 1, instructions)
        self.seq, self.ready, self.world = 1, ready, world
        self.round = new_round(Terms(minimum, target, 1e12, 10, 10), [(i, n, n) for i, n in enumerate(nodes)])
        self.offered, self.lost_slots, self.starts = [], [], 0
        self.denied = {}
        self.asking = Asking(world.schedule, world.estimates, self)
        self.asking.open()
        self.go()

    def go(self):
        self.world.schedule.settle()
        return self

    def offer(self, slot, lease):
        self.offered.append((slot, lease.ask))
        self.round.apply(slot, SlotEvent.OFFER)

    def lost(self, slot, reason):
        self.lost_slots.append((slot, reason))

    def ended(self, slot, event, reason, message):
        self.denied[slot] = (reason, message)
        self.over(slot, event)

    def begun(self, _):
        self.starts += 1

    def time_s(self):
        return 100.0

    left_s = time_s

    def over(self, slot, event=SlotEvent.TAKE):
        self.round.apply(slot, event)
        self.asking.over(slot, "done")
        return self.go()
