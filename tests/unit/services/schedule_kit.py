"""A live scheduler over a store, and what its holders were told."""

from coordinator.scheduling.policies import named
from coordinator.scheduling.records import Ask, Need, Node
from coordinator.services.leasebook import Holder
from coordinator.services.schedule import Schedule
from coordinator.services.schedule_journal import ScheduleJournal

HOUR = 3_600_000


def node(name, slots=1):
    return Node(name, "north", 64_000, 1 << 20, slots)


def ask(id_, m=1, nodes=("a",), *, tenant="north", submit=0, bound=HOUR):
    return Ask(id_, id_.split("/")[0], tenant, Need(), m, max(m, len(nodes)), 1000, bound, submit, 1000, tuple(nodes))


class Desk:
    """A scheduler over a store, and what its holders were told."""

    def __init__(self, store, clock, policy="fcfs", **journal):
        self.clock, self.started, self.lost = clock, [], []
        self.journal = ScheduleJournal(store, every_s=60, **journal)
        self.schedule = Schedule(clock, named(policy), self.journal)
        self.holder = Holder(
            lambda leases: self.started.append((leases[0].ask, sorted(lease.node for lease in leases))),
            lambda lease, reason: self.lost.append((lease.ask, lease.node, reason)),
        )

    def ask(self, *args, **more):
        self.schedule.ask(ask(*args, **more), self.holder)

    def held(self):
        return sorted((lease.ask, lease.node) for lease in self.schedule.leases())


async def busy(desk, rng, numbers):
    """Let jobs of three tenants ask, hold and give back at random."""
    for number in numbers:
        desk.clock.advance(rng.choice([0.0, 0.5, 3.0]))
        match rng.randrange(8):
            case 0 | 1 | 2 | 3:
                nodes = rng.sample("abc", rng.randint(1, 3))
                tenant = rng.choice(["north", "south", "east"])
                desk.ask(f"job_{number}/1", rng.randint(1, len(nodes)), sorted(nodes), tenant=tenant, bound=60_000)
            case 4 | 5 if desk.held():
                desk.schedule.end(*rng.choice(desk.held()), "done")
            case 6:
                desk.schedule.come(node(rng.choice("abc"), rng.randint(1, 2)))
            case _:
                desk.schedule.withdraw(f"job_{rng.randrange(number + 1)}/1")
        desk.schedule.settle()
