"""What an app may leave with the coordinator is bounded, whatever its process sends."""

from types import SimpleNamespace

import pytest

from common.errors import AppFailed
from common.jobspec import JobSpec
from coordinator.domain.jobs import Job, JobState
from coordinator.services import conversation
from coordinator.services.calls import MAX_METRICS
from coordinator.services.conversation import Conversation
from coordinator.services.objects import MAX_MESSAGES, MAX_OBJECTS, HeldObject

MIB = 1 << 20
JOB = Job(
    "job_1", "cleveland", "fed", "me", "a" * 64, "b" * 64, JobSpec("a", "s:a", "c:a", {}), 1, 2, JobState.RUNNING, "",
    "", 0.0,
)  # fmt: skip


class Run:
    """A job with pushes under way."""

    def __init__(self, pushes, size=1, messages=1):
        self.job = JOB
        self.journal = SimpleNamespace(seq=0, live=True)
        held = HeldObject(-1, size, "c" * 64)
        call = SimpleNamespace(instructions=[None] * messages)
        self.live = {seq: SimpleNamespace(held=[held], call=call) for seq in range(1, pushes + 1)}

    def changed(self, job):
        self.job = job


def talk(run):
    notes = []
    around = SimpleNamespace(
        feed=SimpleNamespace(note=lambda *_, **facts: notes.append(facts)),
        settings=SimpleNamespace(limits=SimpleNamespace(memory_mib=10)),
    )
    return Conversation(around, run, SimpleNamespace()), notes


@pytest.mark.parametrize(
    ("pushes", "size", "messages", "said"),
    [
        (MAX_OBJECTS, 1, 1, f"{MAX_OBJECTS} objects"),
        (10, MIB, 1, f"{10 * MIB} bytes are allowed"),
        (10, 1, MAX_MESSAGES // 10, f"{MAX_MESSAGES} messages"),
    ],
)
def test_an_app_that_pushes_and_never_pulls_is_refused(pushes, size, messages, said):
    one = SimpleNamespace(instructions=[None])
    run = Run(pushes, size, messages)
    with pytest.raises(AppFailed, match=said) as caught:
        talk(run)[0]._check_room(one, [HeldObject(-1, 1, "d" * 64)])
    assert caught.value.reason == "refused"
    del run.live[1]
    talk(run)[0]._check_room(one, [HeldObject(-1, 1, "d" * 64)])


def test_the_exchange_that_a_dead_child_left_is_not_counted_again():
    run = Run(10, MIB)
    run.journal.seq = 1
    talk(run)[0]._check_room(run.live[1].call, run.live[1].held)


def test_progress_fills_neither_the_record_nor_the_log(monkeypatch):
    monkeypatch.setattr(conversation, "_MAX_TOLD", 3 * MAX_METRICS)
    run = Run(0)
    talking, notes = talk(run)
    for number in range(20):
        metrics = {f"{number} {i}": 1.0 for i in range(MAX_METRICS)}
        talking._progress("evaluated", {"op": "evaluated", "round": number, "metrics": metrics})
    assert len(run.job.metrics) == MAX_METRICS
    assert len(notes) == 2
