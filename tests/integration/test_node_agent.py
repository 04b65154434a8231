"""The agent with a real sandboxed ClientApp, over a link in the test's hands."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from client_node.adapters.state import SqliteState
from common.bundle import pack, read_bundle
from common.wire import hansa_node_pb2 as pb
from tests.integration.node_stage import CODE, FED, JOB, PYPROJECT, S, Stage, until

pytestmark = pytest.mark.integration


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def test_a_freshly_joined_node_runs_nothing(stage: Stage) -> None:
    async with stage.running(prepare=False):
        answer = await stage.prepare()
        assert {"no_dataset_shared", "app_not_approved"} <= {d.code for d in answer.denials}
        assert stage.link.downloads == []
        status = await stage.link.status(await stage.offer(0), S.FAILED, S.DENIED)
        assert status.state == S.FAILED
        assert status.reason == "node_error"


async def test_tasks_run_in_one_warm_process_and_state_is_carried_from_round_to_round(stage: Stage) -> None:
    stage.consent()
    async with stage.running():
        first, second = [await stage.uploaded(await stage.offer(seq)) for seq in (0, 1)]
        assert first[0] == {"arrays/w": [2.0, 0.0]}
        assert second[0] == {"arrays/w": [2.0, 2.0]}
        told = [metrics["metrics"] for _, metrics in (first, second)]
        assert [(m["num-examples"], m["runs"], m["partition"]) for m in told] == [(3, 1, 1), (3, 2, 1)]
        assert told[0]["pid"] == told[1]["pid"]
        assert stage.link.said(f"{JOB}/0/0") == [S.ACCEPTED, S.RUNNING, S.READY]
        assert "doing train" in (stage.place.log / f"{JOB}.log").read_text()


async def test_an_update_is_kept_until_its_exchange_is_closed(stage: Stage) -> None:
    stage.consent()
    async with stage.running():
        task = await stage.offer(0)
        await stage.uploaded(task)
        assert [u.task for u in (await stage.link.client.hello()).held] == [task]  # type: ignore[union-attr]
        await stage.link.tell(closed=pb.ExchangeClosed(job=JOB, seq=0))
        await until(lambda: not list(stage.place.updates.glob("*.update")))
        assert not (await stage.link.client.hello()).held  # type: ignore[union-attr]


async def test_a_held_update_is_sent_again_without_training_and_another_instruction_trains_anew(stage: Stage) -> None:
    stage.consent()
    async with stage.running():
        task = await stage.offer(0)
        before = await stage.uploaded(task)
    stage.link.uploads.clear()
    async with stage.running(prepare=False):  # the job is on record: no Prepare is needed after a restart
        await stage.offer(0)
        assert await stage.uploaded(task) == before
        assert stage.link.said(task) == [S.READY]
        stage.link.uploads.clear()
        await stage.offer(0, lr=0.5)
        after = await stage.uploaded(task)
        assert S.RUNNING in stage.link.said(task)
        assert after[1]["metrics"]["runs"] == 1  # from the state before the task, not from the one it had left


async def test_state_survives_a_restart_of_the_agent(stage: Stage) -> None:
    stage.consent()
    async with stage.running():
        await stage.uploaded(await stage.offer(0))
        await stage.link.tell(closed=pb.ExchangeClosed(job=JOB, seq=0))
        await until(lambda: not list(stage.place.updates.glob("*.update")))
    async with stage.running(prepare=False):
        _, metrics = await stage.uploaded(await stage.offer(1))
        assert metrics["metrics"]["runs"] == 2


async def test_an_app_that_empties_its_state_starts_from_an_empty_one(stage: Stage) -> None:
    stage.consent()
    async with stage.running():
        runs = []
        for seq, do in enumerate(("train", "forget", "train")):
            runs.append((await stage.uploaded(await stage.offer(seq, do=do)))[1]["metrics"]["runs"])
        assert runs == [1, 2, 1]


async def test_a_welcome_drops_what_no_job_needs_and_sends_the_rest_again(stage: Stage) -> None:
    stage.consent()
    async with stage.running():
        task = await stage.offer(0)
        await stage.uploaded(task)
        stage.link.uploads.clear()
        await stage.link.tell(welcome=pb.Welcome(running_jobs=[JOB]))
        await stage.uploaded(task)
        await stage.link.tell(welcome=pb.Welcome(running_jobs=[]))
        await until(lambda: not list(stage.place.updates.iterdir()) and not (stage.place.jobs / JOB).exists())


@pytest.mark.parametrize(
    ("do", "reason", "words"), [("raise", "app_raised", "row 7 is odd"), ("exit", "app_exited", "3")]
)
async def test_a_failing_app_is_named_by_its_reason_and_the_next_task_gets_a_fresh_child(
    stage: Stage, do: str, reason: str, words: str
) -> None:
    stage.consent()
    stage.set("share_errors", "true")
    async with stage.running():
        _, first = await stage.uploaded(await stage.offer(0))
        status = await stage.link.status(await stage.offer(1, do=do), S.FAILED)
        assert status.reason == reason
        assert words in status.message
        stage.link.sent.clear()
        _, metrics = await stage.uploaded(await stage.offer(2))
        assert metrics["metrics"]["runs"] == 2  # the failed task left no trace in the state
        assert metrics["metrics"]["runs"] == first["metrics"]["runs"] + 1


async def test_what_an_app_raised_stays_here_but_for_its_kind_and_place(stage: Stage) -> None:
    stage.consent()
    async with stage.running():
        status = await stage.link.status(await stage.offer(0, do="raise"), S.FAILED)
        assert status.reason == "app_raised"
        assert re.match(r"ValueError at \w+\.py:\d+; ", status.message)
        assert "row 7" not in status.message


async def test_a_lease_that_runs_out_kills_the_app(stage: Stage) -> None:
    stage.consent()
    async with stage.running() as agent:
        await stage.uploaded(await stage.offer(0))
        status = await stage.link.status(await stage.offer(1, do="hang", lease=0.5), S.FAILED)
        assert status.reason == "lease_expired"
        assert agent._jobs.opened()[0].app.pid is None


async def test_a_child_killed_from_outside_is_tried_once_more(stage: Stage) -> None:
    stage.consent()
    async with stage.running() as agent:
        await stage.uploaded(await stage.offer(0))
        task = await stage.offer(1, do="hang", lease=20)
        await stage.link.status(task, S.RUNNING)
        app = agent._jobs.opened()[0].app
        first = app.pid
        assert first is not None
        os.killpg(first, signal.SIGKILL)
        await until(lambda: app.pid not in {first, None})
        assert stage.link.said(task) == [S.ACCEPTED, S.RUNNING]
        await stage.link.tell(cancel=pb.TaskCancel(task=task, reason="test"))
        await until(lambda: app.pid is None)


async def test_a_job_whose_approval_is_taken_back_is_stopped_at_once(stage: Stage) -> None:
    stage.consent()
    async with stage.running() as agent:
        task = await stage.offer(0, do="hang")
        await stage.link.status(task, S.RUNNING)
        other = SqliteState(stage.place.database)
        other.revoke(FED, stage.digest)
        other.close()
        agent.poke()
        status = await stage.link.status(task, S.DENIED)
        assert status.reason == "app_not_approved"
        report = await stage.link.heard(lambda e: e.report if e.HasField("report") else None)
        assert not report.approvals
        assert report.datasets[0].name == "rows"


async def test_a_reply_that_would_be_seen_alone_is_denied_unless_the_node_allows_it(stage: Stage) -> None:
    stage.consent()
    async with stage.running():
        status = await stage.link.status(await stage.offer(0, fold=False), S.DENIED)
        assert {d.code for d in status.denials} >= {"individual_replies_denied"}


async def test_an_archive_that_is_another_app_is_refused(stage: Stage, tmp_path: Path) -> None:
    stage.consent()
    other = tmp_path / "other"
    other.mkdir()
    (other / "pyproject.toml").write_text(PYPROJECT)
    (other / "counter.py").write_text(CODE + "\n# not what was approved\n")
    async with stage.running(prepare=False):
        answer = await stage.prepare(bundle=stage.link.put(pack(other)))
        assert [d.code for d in answer.denials] == ["bad_signature"]
        assert not list(stage.place.apps.iterdir())


async def test_missing_imports_are_named_before_anything_runs(stage: Stage, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "pyproject.toml").write_text(PYPROJECT)
    (other / "counter.py").write_text("import nosuchlibrary\n" + CODE)
    stage.archive = pack(other)
    stage.digest = read_bundle(stage.archive).digest
    stage.consent()
    async with stage.running(prepare=False):
        answer = await stage.prepare()
        assert [d.code for d in answer.denials] == ["missing_imports"]
        assert "nosuchlibrary" in answer.denials[0].message


async def test_an_ended_job_leaves_nothing_running_and_nothing_on_disk(stage: Stage) -> None:
    stage.consent()
    async with stage.running() as agent:
        await stage.uploaded(await stage.offer(0))
        pid = agent._jobs.opened()[0].app.pid
        assert pid is not None
        await stage.link.tell(ended=pb.JobEnded(job=JOB, state="succeeded"))
        await until(lambda: not (stage.place.jobs / JOB).exists() and not list(stage.place.updates.iterdir()))
        await until(lambda: not Path(f"/proc/{pid}").exists() and not list(stage.place.apps.iterdir()))


async def test_an_environment_that_is_broken_is_a_denial_and_not_a_silence(stage: Stage, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("not a program")
    python.chmod(0o755)
    stage.set("environments.default", str(python))
    stage.consent()
    async with stage.running(prepare=False):
        assert {d.code for d in (await stage.prepare()).denials} == {"node_error"}


async def test_a_task_no_longer_wanted_is_kept_and_sent_when_it_is_offered_again(stage: Stage) -> None:
    stage.consent()
    stage.link.wanted = False
    async with stage.running():
        task = await stage.offer(0)
        await stage.link.status(task, S.READY)
        stage.link.wanted = True
        await stage.offer(0)
        await stage.uploaded(task)
        assert stage.link.said(task).count(S.RUNNING) == 1


async def test_a_node_that_is_refused_stops_working_and_keeps_what_it_has(stage: Stage) -> None:
    stage.consent()
    async with stage.running() as agent:
        await stage.uploaded(await stage.offer(0))
        task = await stage.offer(1, do="hang")
        await stage.link.status(task, S.RUNNING)
        stage.link.client.on_state("refused", "this node was revoked")  # type: ignore[union-attr]
        await until(lambda: not agent._jobs.opened())
        await until(lambda: "revoked" in stage.place.agent_file.read_text())
        assert list(stage.place.updates.glob("*.update"))
