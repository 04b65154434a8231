"""Figures and pictures of runs small enough to be worked out by hand."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from coordinator.scheduling.policies import named
from coordinator.scheduling.simulate.engine import History, Setup, simulate
from coordinator.scheduling.simulate.report import report
from coordinator.scheduling.simulate.shares import Curves, fairness_gap
from coordinator.scheduling.simulate.sizes import TrueSizes
from coordinator.scheduling.simulate.svg import COLOURS, picture
from coordinator.scheduling.simulate.trace import TraceJob

SVG = "{http://www.w3.org/2000/svg}"


def job(id_, tenant, submit_s, gpus, length_s):
    return TraceJob(id_, 0, tenant, submit_s * 1000, gpus, 1000, length_s * 1000, "normal", None)


def test_a_day_worked_out_by_hand():
    # 2 GPUs, first come first served: j0 holds both for 100 s, j1 one from 100 to 150, j2 one from 100 to 120.
    jobs = (job("j0", "a", 0, 2, 100), job("j1", "b", 20, 1, 50), job("j2", "b", 60, 1, 20))
    setup = Setup(named("fcfs"), 2, 10**6)
    record = report(simulate(jobs, setup, TrueSizes()), setup)
    assert record["mean_jct_s"] == pytest.approx((100 + 130 + 60) / 3)
    assert record["mean_wait_s"] == pytest.approx((0 + 80 + 40) / 3)
    assert record["mean_slowdown"] == pytest.approx((1 + 130 / 50 + 60 / 20) / 3)
    assert record["p99_slowdown"] == 3.0
    assert record["longest_wait_s"] == 80
    assert record["longest_wait_job"] == {"id": "j1", "line": 0, "tenant": "b"}
    assert record["idle_share"] == pytest.approx((30 * 1) / (150 * 2))
    assert record["idle_share_backlog"] == 0.0
    assert record["backlog_s"] == 80
    assert record["gpu_hours"] == pytest.approx((200 + 50 + 20) / 3600)
    assert [(row["tenant"], row["jobs"], row["share"]) for row in record["tenants"]] == [
        ("a", 1, pytest.approx(200 / 270)),
        ("b", 2, pytest.approx(70 / 270)),
    ]
    assert record["fairness_gap_quanta"] is None  # never did both wait


def test_short_lengths_count_as_ten_seconds_in_a_slowdown():
    jobs = (job("j0", "a", 0, 1, 60), job("j1", "a", 0, 1, 1))
    setup = Setup(named("fcfs"), 1, 10**6)
    tenants = report(simulate(jobs, setup, TrueSizes()), setup)["tenants"]
    assert tenants[0]["p99_slowdown"] == pytest.approx(61 / 10)


def test_nothing_that_ran_is_no_figure():
    setup = Setup(named("fcfs"), 1, 1000)
    record = report(simulate((job("j0", "a", 0, 5, 10),), setup, TrueSizes()), setup)
    assert record["never_fits"] == 1
    assert record["mean_jct_s"] is record["idle_share"] is record["fairness_gap_quanta"] is None
    assert "nothing ran" in picture(simulate((), setup, TrueSizes()), 1, "empty")


def test_the_gap_is_the_most_one_got_ahead_while_both_waited():
    history = History(("a", "b"))
    for at, tenant, waiting, granted in (
        (0, 0, 1, 0), (0, 1, 1, 0),  # both wait
        (1, 0, 0, 300), (2, 0, 0, 300), (3, 1, 0, 400),  # a is 600 ahead, then 200
        (4, 1, -1, 0), (5, 0, 0, 9000),  # b has nothing to run: nothing counts
        (6, 1, 1, 0), (7, 1, 0, 100),  # both again
    ):  # fmt: skip
        history.note(at, tenant, 0, waiting, granted)
    curves = Curves.of(history)
    assert fairness_gap(curves, np.array([1.0, 1.0]), 100.0) == 6.0
    assert fairness_gap(curves, np.array([3.0, 1.0]), 100.0) == pytest.approx(4.0)  # +2 after a's 600, -2 after b's 400


def test_service_is_what_was_held_between_two_moments():
    history = History(("a",))
    history.note(0, 0, 2000, 0, 0)
    history.note(10, 0, -1000, 0, 0)
    history.note(20, 0, -1000, 0, 0)
    assert Curves.of(history).served(0, np.array([0.0, 5.0, 15.0, 20.0])).tolist() == [10_000, 15_000, 5000]


def bands(svg):
    """Return {tenant: share of the area of the plot} from the paths."""
    found = {}
    for path in ET.fromstring(svg).iter(f"{SVG}path"):
        points = [tuple(map(float, pair.split())) for pair in re.findall(r"[\d.]+ [\d.]+", path.get("d"))]
        area = (
            abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True))) / 2
        )
        found[path.find(f"{SVG}title").text.split(":")[0]] = area
    return found


def test_the_picture_is_to_scale():
    jobs = (job("j0", "a", 0, 1, 300), job("j1", "b", 0, 2, 150), job("j2", "c", 150, 1, 150))
    setup = Setup(named("fcfs"), 4, 10**6)
    svg = picture(simulate(jobs, setup, TrueSizes()), 4, "three")
    areas = bands(svg)
    assert set(areas) == {"a", "b", "c"}
    assert areas["a"] == pytest.approx(areas["b"], rel=0.01)
    assert areas["c"] == pytest.approx(areas["a"] / 2, rel=0.01)
    root = ET.fromstring(svg)
    plot = root.find(f"{SVG}rect[@class='idle']")
    assert areas["a"] == pytest.approx(float(plot.get("width")) * float(plot.get("height")) / 4, rel=0.01)


def test_the_picture_can_be_read_aloud():
    setup = Setup(named("fcfs"), 1, 10**6)
    root = ET.fromstring(picture(simulate((job("j0", "a", 0, 1, 3600),), setup, TrueSizes()), 1, "one"))
    assert root.get("role") == "img"
    named_by = root.get("aria-labelledby").split()
    texts = {element.get("id"): element.text for element in root if element.get("id")}
    assert [texts[id_] for id_ in named_by] == ["one", "Share of 1 GPUs held by each tenant over 1 h; means: a 100.0%."]


def test_tenants_cannot_draw_in_the_picture():
    name = '</text><script>alert("x")</script>\u202e\x1b' + "n" * 200
    setup = Setup(named("fcfs"), 1, 10**6)
    svg = picture(simulate((job("j0", name, 0, 1, 10),), setup, TrueSizes()), 1, name)
    root = ET.fromstring(svg)
    assert not list(root.iter(f"{SVG}script"))
    assert "\u202e" not in svg
    assert "\x1b" not in svg


def test_many_tenants_are_drawn_as_the_largest_and_the_others():
    jobs = tuple(job(f"j{i:02d}", f"t{i:02d}", 0, 1, 100 + i) for i in range(40))
    setup = Setup(named("fcfs"), 40, 10**6)
    areas = bands(picture(simulate(jobs, setup, TrueSizes()), 40, "many"))
    assert len(areas) == len(COLOURS) + 1
    assert "29 others" in areas
