"""Leases of slots: granted first come, first served, ended by the clock, safe against calls from within."""

from common.clock import ManualClock
from coordinator.scheduling.slots import Ask
from coordinator.services.leases import Leases


class Desk:
    def __init__(self, slots=1):
        self.clock, self.started, self.expired = ManualClock(), [], []
        self.leases = Leases(self.clock, lambda _node: slots)

    def want(self, task, on_start=None, duration=10.0):
        ask = Ask(task, "job_1", "node_1", self.clock.monotonic(), len(task), duration)
        started = on_start or (lambda lease: self.started.append(lease.task))
        self.leases.ask(ask, started, lambda lease: self.expired.append(lease.task))


async def test_one_slot_serves_one_task_after_the_other():
    desk = Desk()
    desk.want("a")
    desk.want("bb")
    desk.leases.settle()
    assert desk.started == ["a"]
    desk.leases.release("a")
    desk.leases.settle()
    assert desk.started == ["a", "bb"]
    desk.leases.close()


async def test_a_lease_that_has_run_out_frees_its_slot_and_is_told():
    desk = Desk()
    desk.want("a")
    desk.leases.settle()
    desk.want("bb")
    desk.clock.advance(10.0)
    desk.leases.settle()
    assert (desk.expired, desk.started) == (["a"], ["a", "bb"])
    desk.leases.close()


async def test_whoever_is_started_may_release_and_ask_from_within():
    desk = Desk()

    def at_once(lease):
        desk.started.append(lease.task)
        desk.leases.release(lease.task)
        desk.leases.settle()

    desk.want("a", at_once)
    desk.want("bb", at_once)
    desk.leases.settle()
    assert desk.started == ["a", "bb"]
    desk.leases.close()


async def test_a_node_that_is_away_gets_nothing():
    desk = Desk(slots=0)
    desk.want("a")
    desk.leases.settle()
    assert desk.started == []
    assert not desk.leases.holds("a")
    desk.leases.close()
