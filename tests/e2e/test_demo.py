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
    done = subprocess.run(
        [*HANSA, "demo", "--json", "--keep", str(folder)], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done.stderr


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


@pytest.fixture(scope="module")
def up(demonstrated):
    """The kept platform, started again; calls ``hansa`` in the name of Cleveland's steward."""
    folder = demonstrated[0]
    with subprocess.Popen([*HANSA, "up", "--json", "--dir", str(folder)], stdout=subprocess.PIPE, text=True) as running:
        environ = {**os.environ, "HANSA_CONTEXT": json.loads(running.stdout.readline())["context"]}

        def call(*argv):
            done = subprocess.run([*HANSA, *map(str, argv)], env=environ, capture_output=True, text=True, timeout=120)
            return done.returncode, done.stdout, done.stderr

        yield call
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 130
    assert left_behind(folder) == []
    assert call("job", "ls")[0] == 5  # and now nobody is there


def test_up_starts_a_kept_platform_again(up):
    rows = json.loads(up("nodes", "ls", "--json")[1])
    assert {row["name"]: row["online"] for row in rows} == dict.fromkeys(HOSPITALS, True)


def test_the_demo_s_version_is_still_served_and_can_be_proved_offline(up, tmp_path):
    code, _, err = up("model", "pull", "heart", tmp_path / "m")
    assert code == 0, err
    assert up("model", "verify", tmp_path / "m")[0] == 0
    assert up("model", "verify", tmp_path / "m", "--key", "other=" + "00" * 32)[0] == 1
    with (tmp_path / "m" / "weights.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    code, _, err = up("model", "verify", tmp_path / "m")
    assert code == 1
    assert "bad_signature" in err


def test_a_job_is_planned_submitted_watched_and_becomes_the_next_version(up, demonstrated):
    app = Path(__file__).parents[2] / "examples" / "heart"
    assert up("job", "plan", app)[0] == 0
    code, out, err = up("job", "submit", app, "-c", "num-server-rounds=2", "--watch", "--json")
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["seq"] for line in lines[:-1]] == list(range(1, len(lines)))
    assert lines[-1]["state"] == "succeeded"
    versions = json.loads(up("model", "show", "heart", "--json")[1])["versions"]
    assert max(v["version"] for v in versions) == demonstrated[1]["version"] + 1
    assert "HANSA-RESULT" in up("job", "logs")[1]


def test_an_app_nobody_approved_can_be_placed_nowhere_and_is_refused(up, tmp_path):
    up("new", "stranger", "--into", tmp_path)
    code, out, _ = up("job", "plan", tmp_path / "stranger", "--json")
    assert code == 7
    denials = {node["name"]: [d["code"] for d in node["denials"]] for node in json.loads(out)["nodes"]}
    assert denials == {name: ["app_not_approved"] for name in HOSPITALS}
    assert up("job", "submit", tmp_path / "stranger")[0] == 3


def test_a_steward_cannot_make_tenants_nor_see_strangers(up):
    assert up("tenant", "add", "mine")[0] == 3
    assert up("tenant", "show", "hungary")[0] == 1


def test_an_interrupted_demo_leaves_nothing(tmp_path):
    folder = tmp_path / "kept"
    with subprocess.Popen([*HANSA, "demo", "--keep", str(folder)], stderr=subprocess.DEVNULL) as running:
        wait_for(lambda: len(left_behind(folder)) > 1, 30)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    assert left_behind(folder) == []


@pytest.mark.parametrize(
    ("role", "named"), [("node run --dir {}/hungary", "node hungary"), ("coordinator serve", "coordinator")]
)
def test_a_process_that_dies_is_told_and_the_demo_ends_non_zero(tmp_path, role, named):
    folder = tmp_path / "kept"
    with subprocess.Popen([*HANSA, "demo", "--keep", str(folder)], stderr=subprocess.PIPE, text=True) as running:

        def agents():
            lines = command_lines().items()
            return [pid for pid, line in lines if "common.cli.bound" in line and role.format(folder) in line]

        for line in running.stderr:
            if "submitted" in line:
                break
        mine = [pid for pid in agents() if str(folder) in command_lines()[pid]]
        os.kill(mine[0], signal.SIGKILL)
        said = running.stderr.read()
        assert running.wait(60) == 1
    assert f"{named} (pid {mine[0]}) died of SIGKILL" in said
    assert left_behind(folder) == []
