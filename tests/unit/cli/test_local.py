"""The parts of a local platform that need none of the platform."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.cli.local.layout import default_app, plan_layout, prepare_folders
from common.cli.local.processes import ProcessDied, Processes, child_environ, tail
from common.cli.local.scores import read_scores, table_row
from common.cli.local.serving import PATIENT, ready, sample
from common.clock import SystemClock
from common.errors import BadInput, PlatformError
from common.jobspec import Export, JobSpec


def heart():
    return default_app()


def test_each_hospital_of_the_example_is_a_site_with_its_own_copy_of_its_data(tmp_path):
    layout = plan_layout(tmp_path / "p", heart(), 4)
    assert [site.name for site in layout.sites] == ["cleveland", "hungary", "switzerland", "vabeach"]
    prepare_folders(layout)
    for site in layout.sites:
        assert site.data.read_bytes() == (heart() / "data" / f"{site.name}.csv").read_bytes()
        assert site.data.name == "heart.csv"
    assert len({site.agent for site in layout.sites}) == 4


def test_more_sites_than_files_get_names_of_their_own(tmp_path):
    names = [site.name for site in plan_layout(tmp_path, heart(), 6).sites]
    assert names[4:] == ["cleveland-2", "hungary-2"]


def test_a_folder_in_use_is_never_taken(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(BadInput):
        prepare_folders(plan_layout(tmp_path, heart(), 1))


def result(**auc):
    models = {
        m: {"accuracy": 0.5, "balanced_accuracy": 0.25, "auc": auc.get(m)} for m in ("federated", "local", "majority")
    }
    return "noise\nHANSA-RESULT " + json.dumps(
        {"hospitals": [{"n": 9, "positive": 4, "partition": 2, "models": models}]}
    )


def test_scores_are_read_from_the_last_result_line_and_named():
    rows = read_scores(result(federated=0.1) + "\n" + result(federated=0.75) + "\nmore", {2: "switzerland"})
    assert table_row(rows[0]) == [
        "switzerland",
        "9",
        "0.500",
        "0.250",
        "0.750",
        "0.500",
        "0.250",
        "n/a",
        "0.500",
        "0.250",
        "n/a",
    ]


@pytest.mark.parametrize(
    "log", ["", "HANSA-RESULT", "HANSA-RESULT {", "HANSA-RESULT []", 'HANSA-RESULT {"hospitals": [3]}']
)
def test_a_log_without_a_sound_result_has_no_scores(log):
    assert read_scores(log, {}) == []


def spec(**inputs):
    return JobSpec("heart", "a:b", "a:c", {}, export=Export("m:f", inputs))


def test_the_sample_fits_the_export():
    assert sample(spec(x=["batch", 13])) == {"instances": [PATIENT]}
    assert sample(spec(x=["batch", 2, 3])) == {"instances": [[[0.0] * 3] * 2]}
    assert sample(spec(a=["batch", 2], b=["batch"])) == {"inputs": {"a": [[0.0, 0.0]], "b": [0.0]}}


def test_a_version_is_ready_when_every_node_serves_it_and_a_failure_is_told():
    def at(node, state, version=2):
        return {
            "tenant": "t",
            "model": "m",
            "version": version,
            "node": node,
            "node_name": node,
            "state": state,
            "message": "why",
        }

    assert not ready([at("a", "serving"), at("b", "fetching")], "t", "m", 2, ["a", "b"])
    assert not ready([at("a", "serving"), at("b", "serving", 1)], "t", "m", 2, ["a", "b"])
    assert ready([at("a", "serving"), at("b", "serving")], "t", "m", 2, ["a", "b"])
    with pytest.raises(PlatformError, match="b cannot serve m v2: why"):
        ready([at("a", "serving"), at("b", "failed")], "t", "m", 2, ["a", "b"])


def wait_for(what, seconds=20):
    until = SystemClock().monotonic() + seconds
    while not what():
        assert SystemClock().monotonic() < until
        time.sleep(0.01)


def test_a_process_that_dies_is_told_with_its_log(tmp_path):
    processes = Processes(child_environ({}))
    died = processes.start("node x", ["job", "nonsense"], tmp_path / "log")
    wait_for(lambda: died.exit_code is not None)
    with pytest.raises(ProcessDied) as caught:
        processes.check()
    assert "node x" in caught.value.detail
    assert "code 2" in caught.value.detail
    assert "nonsense" in caught.value.detail
    processes.end()


def test_a_short_command_that_fails_says_why_and_hides_tokens():
    with pytest.raises(PlatformError) as caught:
        Processes(child_environ({})).command("explain", "hjt1_verysecret")
    assert "verysecret" not in caught.value.detail.splitlines()[0]
    assert "no code" in caught.value.detail


def test_the_caller_s_own_coordinator_never_reaches_the_platform(monkeypatch):
    monkeypatch.setenv("HANSA_TOKEN", "mine")
    assert "HANSA_TOKEN" not in child_environ({})


def test_a_missing_log_is_no_error(tmp_path):
    assert tail(tmp_path / "none") == "    (no log)"


def test_a_bound_process_does_not_outlive_its_parent(tmp_path):
    """Kill -9 of ``hansa up`` must leave nothing behind: the kernel ends its processes."""
    child = (
        "import os, time; from common.cli.bound import bind_to_parent; bind_to_parent(os.getppid()); "
        "print('bound', flush=True); time.sleep(60)"
    )
    parent = (
        "import subprocess, sys; "
        f"p = subprocess.Popen([sys.executable, '-P', '-c', {child!r}], stdout=subprocess.PIPE, start_new_session=True); "
        "p.stdout.readline(); print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as running:
        pid = int(running.stdout.readline())
        running.send_signal(signal.SIGKILL)
        running.wait()
        wait_for(lambda: not _alive(pid))


def test_a_bound_process_whose_parent_died_before_it_could_ask_ends_at_once():
    done = subprocess.run([sys.executable, "-P", "-m", "common.cli.bound", "1", "explain", "bad_input"], timeout=60)
    assert done.returncode == 1


def test_an_interrupt_while_a_process_starts_is_raised_once_it_is_listed(tmp_path, monkeypatch):
    started, popen = Processes(child_environ({})), subprocess.Popen

    def interrupted(*args, **kwargs):
        running = popen(*args, **kwargs)
        signal.raise_signal(signal.SIGINT)  # Ctrl-C between the fork and the return
        return running

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        started.start("it", ["explain", "bad_input"], tmp_path / "log")
    assert [process.name for process in started.started] == ["it"]
    started.end()


def _alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
