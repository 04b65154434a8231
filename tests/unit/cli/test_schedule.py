"""`hansa schedule` and `hansa capacity`: what is printed, drawn and refused."""

import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from coordinator.capacity.erlang import Queue
from coordinator.commands.simulate import PolicyName, SizesName
from coordinator.scheduling.policies import ABOUT
from coordinator.scheduling.simulate.setting import YARDSTICKS
from coordinator.scheduling.simulate.sizes import SIZES

EXAMPLE = Path(__file__).parents[3] / "examples" / "traces" / "two_days.csv"
FIGURES = {
    "mean_slowdown", "p99_slowdown", "mean_jct_s", "longest_wait_s", "idle_share", "fairness_gap_quanta", "tenants",
}  # fmt: skip
TRACE = """submit,tenant,size,duration,priority
0,north,2,300,normal
10,south,1,60,high
20,north,1,0,normal
30,east,9,60,normal
"""


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return path


def simulate(hansa, *argv):
    code, out, err = hansa("schedule", "simulate", *argv, "--json")
    assert code == 0, err
    return json.loads(out)


def test_every_policy_and_belief_can_be_named():
    assert set(PolicyName) == {*ABOUT, *YARDSTICKS}
    assert set(SizesName) == set(SIZES)


def test_a_trace_becomes_figures_a_table_and_a_picture(hansa, trace, tmp_path):
    svg = tmp_path / "shares.svg"
    record = simulate(hansa, trace, "--policy", "fcfs", "--gpus", "2", "--svg", svg)
    assert record.keys() >= FIGURES
    assert (record["finished"], record["never_fits"], record["violations"]) == (3, 1, 0)
    assert record["mean_jct_s"] == pytest.approx((300 + 350 + 280) / 3)
    assert ET.parse(svg).getroot().tag.endswith("svg")
    code, out, _ = hansa("schedule", "simulate", trace, "--policy", "fcfs", "--gpus", "2")
    assert code == 0
    assert "3 ended, 1 larger than the pool" in out
    assert [line.split()[0] for line in out.splitlines()[-3:]] == ["north", "south", "east"]


def test_the_same_seed_gives_the_same_bytes(hansa, trace):
    argv = ("schedule", "simulate", trace, "--policy", "sjf", "--sizes", "noisy", "--seed", "3", "--json")
    assert hansa(*argv)[1] == hansa(*argv)[1]


def test_weights_days_and_classes_arrive(hansa, trace):
    record = simulate(
        hansa, trace, "--policy", "priority", "--gpus", "1", "--weight", "north=3", "--head-start", "high=60",
        "--days", "0-0.0002", "--longest-s", "30",
    )  # fmt: skip
    assert record["jobs"] == 2  # those of the first 17 s
    assert {row["tenant"]: row["weight"] for row in record["tenants"]} == {"north": 3, "south": 1}
    assert record["gpu_hours"] == pytest.approx(30 / 3600)


def test_a_trace_may_come_through_a_pipe(hansa, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("submit,rounds\n0,2\n"))
    assert simulate(hansa, "-", "--round-s", "60")["mean_jct_s"] == 120


@pytest.mark.parametrize(
    ("text", "argv", "says"),
    [
        (TRACE + "5,north,x,1,\n", (), "line 6: column 'size': 'x' is not a number"),
        (b"submit,duration\n\xff,1\n", (), "is not UTF-8 text"),
        ("submit,duration\n", (), "no job is left"),
        (TRACE, ("--days", "5-9"), "no job is left in"),
        ("submit,duration,priority\n0,1,gold\n", ("--policy", "priority"), "line 2: class 'gold' has no head start"),
    ],
)
def test_what_cannot_be_read_ends_with_a_code_and_the_place(hansa, tmp_path, text, argv, says):
    path = tmp_path / "bad.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    code, _, err = hansa("schedule", "simulate", path, *argv)
    assert code == 1
    assert says in err
    assert "hansa explain bad_trace" in err


@pytest.mark.parametrize(
    "argv",
    [
        ("--days", "9-5"), ("--days", "x"), ("--weight", "north"), ("--weight", "north=0"), ("--weight", "north=nan"), ("--weight", "nobody=2"),
        ("--head-start", "high=fast"), ("--policy", "best"), ("--gpus", "0"), ("--sizes", "small"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_flag_that_means_nothing_is_misuse(hansa, trace, argv):
    assert hansa("schedule", "simulate", trace, *argv)[0] == 2


def test_a_file_that_is_not_there_or_cannot_be_written_is_named(hansa, trace, tmp_path):
    code, _, err = hansa("schedule", "simulate", tmp_path / "none.csv")
    assert (code, "none.csv cannot be read" in err) == (1, True)
    code, _, err = hansa("schedule", "simulate", trace, "--svg", tmp_path / "no" / "x.svg")
    assert (code, "x.svg cannot be written" in err) == (1, True)


def test_the_example_trace_runs(hansa, tmp_path):
    short = tmp_path / "short.csv"
    short.write_text("".join(EXAMPLE.read_text().splitlines(keepends=True)[:60]))
    record = simulate(hansa, short, "--gpus", "32")
    assert record["finished"] == 59


def test_policies_say_what_they_promise(hansa):
    code, out, _ = hansa("schedule", "policies", "--json")
    assert (code, [row["policy"] for row in json.loads(out)]) == (0, list(ABOUT))
    assert all(row["promise"] and row["starvation_bound"] for row in json.loads(out))
    assert all(about.promise in hansa("schedule", "policies")[1] for about in ABOUT.values())


def capacity(hansa, *argv):
    code, out, err = hansa("capacity", *argv, "--json")
    assert code == 0, err
    return json.loads(out)


def test_rates_that_are_given_are_reckoned_with_here(hansa, hub):
    plan = capacity(hansa, "--arrivals", "12/h", "--service", "30m", "--gang", "8", "--gpus", "64", "--wait", "10m")
    queue = Queue(8, 12 / 3600, 1 / 1800)
    assert plan["mmc"]["wq_s"] == pytest.approx(queue.wq)
    assert plan["states"] == pytest.approx(queue.states(16))
    assert plan["simulated"]["wq_s"] == pytest.approx(queue.wq, rel=0.25)
    assert plan["target"]["wait_s"] == 600
    assert plan["observed"] is None
    assert hub.asked == []
    code, out, _ = hansa("capacity", "--arrivals", "12/h", "--service", "30m", "--gang", "8", "--gpus", "64")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[-3:]] == ["M/M/c", "Allen-Cunneen", "simulated"]


def test_a_pool_that_is_too_small_says_so_and_what_it_takes(hansa):
    code, out, _ = hansa("capacity", "--arrivals", "1/s", "--service", "3s", "--gpus", "2")
    assert code == 0
    assert "At least 4 GPUs" in out


def test_without_rates_the_coordinator_is_asked(hansa, hub):
    plan = capacity(hansa, "--arrivals", "12/h", "--service", "30m", "--gpus", "8")
    hub.on("GET", "/capacity", {**plan, "observed": {
        "window_s": 604800.0, "rounds": 40, "gangs": {"1": 40}, "p_wait": 0.25, "mean_wait_s": 3.5, "places": 8,
    }})  # fmt: skip
    code, out, _ = hansa("capacity", "--wait", "2m", "--window", "1d", "--cpu")
    assert (code, "40 rounds in 7 days; 25.0% waited, 3.5 s on average" in out) == (0, True)
    ((method, path, *_),) = hub.asked
    assert method == "GET"
    assert path.startswith("/capacity?")
    assert "wait_s=120.0" in path
    assert "window_s=86400.0" in path
    assert "accelerators=false" in path
    assert "arrivals" not in path


@pytest.mark.parametrize(
    "argv",
    [("--wait", "soon"), ("--arrivals", "x/h"), ("--arrivals", "1/y"), ("--service", "-5s"), ("--share", "1")],
    ids=" ".join,
)
def test_times_and_rates_that_mean_nothing_are_misuse(hansa, argv):
    assert hansa("capacity", *argv)[0] == 2
