"""``hansa demo`` and ``hansa up``: real processes, real data, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HANSA = [sys.executable, "-P", "-m", "common.cli"]
HOSPITALS = ["cleveland", "hungary", "switzerland", "vabeach"]
# From the data's own page (examples/heart/data/README.md): rows of each file.
ROWS = {"cleveland": 304, "hungary": 293, "switzerland": 123, "vabeach": 200}

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def command_lines():
    """Return the command line of every process, by pid."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found[int(path.parent.name)] = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
    return found


def left_behind(folder):
    """Return the processes that still name ``folder``."""
    return [line for pid, line in command_lines().items() if str(folder) in line and pid != os.getpid()]


def wait_for(what, seconds):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory):
    """One run of the demo that keeps its folder."""
    folder = tmp_path_factory.mktemp("demo") / "kept"
    began = time.monotonic()
    done = subprocess.run(
        [*HANSA, "demo", "--json", "--keep", str(folder)], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done.stderr, time.monotonic() - began


def test_the_demo_takes_under_a_minute(demonstrated):
    assert demonstrated[3] < 60


def test_every_hospital_sees_three_models_on_its_own_patients(demonstrated):
    rows = {row["name"]: row for row in demonstrated[1]["hospitals"]}
    assert sorted(rows) == HOSPITALS
    assert {name: row["n"] for name, row in rows.items()} == ROWS
    better = [
        name
        for name, row in rows.items()
        if row["models"]["federated"]["balanced_accuracy"] > row["models"]["majority"]["balanced_accuracy"]
    ]
    assert better == HOSPITALS


def test_every_node_answers_with_the_published_version(demonstrated):
    answers = demonstrated[1]["predictions"]
    assert sorted(answer["node"] for answer in answers) == HOSPITALS
    assert {answer["version"] for answer in answers} == {demonstrated[1]["version"]}
    assert len({answer["url"] for answer in answers}) == len(HOSPITALS)
    values = [answer["predictions"][0][0] for answer in answers]
    assert max(values) - min(values) < 1e-6
    assert 0 < values[0] < 1


def test_each_node_has_its_own_key_certificate_and_data(demonstrated):
    folder = demonstrated[0]
    for name in ("key.pem", "cert.pem", "node.json"):
        assert len({(folder / hospital / "agent" / name).read_bytes() for hospital in HOSPITALS}) == len(HOSPITALS)
    assert len({(folder / hospital / "data" / "heart.csv").read_bytes() for hospital in HOSPITALS}) == len(HOSPITALS)


def test_the_demo_leaves_no_process_behind(demonstrated):
    assert left_behind(demonstrated[0]) == []


def test_up_starts_a_kept_platform_again_and_sigterm_ends_all_of_it(demonstrated):
    folder = demonstrated[0]
    with subprocess.Popen([*HANSA, "up", "--json", "--dir", str(folder)], stdout=subprocess.PIPE, text=True) as running:
        told = json.loads(running.stdout.readline())
        environ = {**os.environ, "HANSA_CONTEXT": told["context"]}
        nodes = subprocess.run(
            [*HANSA, "nodes", "ls", "--json"], env=environ, capture_output=True, text=True, timeout=60
        )
        running.send_signal(signal.SIGTERM)
        code = running.wait(30)
    assert {row["name"]: row["online"] for row in json.loads(nodes.stdout)} == dict.fromkeys(HOSPITALS, True)
    assert code == 130
    assert left_behind(folder) == []


def test_an_interrupted_demo_leaves_nothing(tmp_path):
    folder = tmp_path / "kept"
    with subprocess.Popen([*HANSA, "demo", "--keep", str(folder)], stderr=subprocess.DEVNULL) as running:
        wait_for(lambda: len(left_behind(folder)) > 1, 30)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    assert left_behind(folder) == []


def test_a_node_that_dies_is_told_and_the_demo_ends_non_zero(tmp_path):
    folder = tmp_path / "kept"
    with subprocess.Popen([*HANSA, "demo", "--keep", str(folder)], stderr=subprocess.PIPE, text=True) as running:

        def agent():
            lines = command_lines().items()
            return [pid for pid, line in lines if "node run" in line and f"{folder}/hungary" in line]

        wait_for(agent, 60)
        os.kill(agent()[0], signal.SIGKILL)
        said = running.stderr.read()
        assert running.wait(60) == 1
    assert "node hungary" in said
    assert "SIGKILL" in said
    assert left_behind(folder) == []
