"""A node beside a real coordinator: it runs nothing until people here say so, and says why it waits."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gpus import build_library
from tests.platform import FEDERATION, HANSA, Node, Platform, platform, pretty

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
GCC = shutil.which("gcc")
APP = Path(__file__).parents[1] / "apps" / "stateful"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("life"), ["alpha", "beta"]) as running:
        if GCC:  # a driver's library that knows two GPUs
            build_library(running.root / "nvml", gpus=2)
            running.nodes["beta"].process.env["LD_LIBRARY_PATH"] = str(running.root / "nvml")
        running.start_nodes()
        yield running


def status(node: Node) -> dict[str, Any]:
    return dict(json.loads(node.hansa("status", "--json")))


def refused(whole: Platform, app: str) -> dict[str, set[str]]:
    """Return the codes of each node's denials, as the plan tells them."""
    plan = whole.client.jobs.plan(FEDERATION, app)
    return {node["name"]: {denial["code"] for denial in node["denials"]} for node in plan["nodes"]}


def test_a_node_runs_an_app_only_once_its_steward_has_approved_it_and_needs_no_restart(whole: Platform) -> None:
    app = str(whole.client.apps.upload(APP)["app_digest"])
    assert all("app_not_approved" in codes for codes in refused(whole, app).values())
    assert not any(list((node.dir / "apps").iterdir()) for node in whole.nodes.values())
    alpha = whole.nodes["alpha"]
    whole.until(lambda: "no app is approved" in status(alpha)["agent"], "the agent saying why it runs nothing")
    for node in whole.nodes.values():
        node.approve(app)
    whole.until(lambda: not any(refused(whole, app).values()), "approvals told to the coordinator")
    done = whole.finish(whole.submit(app))
    assert done["state"] == "succeeded", pretty(done)
    whole.until(lambda: f"waiting for a job in {FEDERATION}" in status(alpha)["agent"], "the agent at rest")
    log = json.loads(alpha.hansa("leases", "--json"))
    assert {(row["job"], row["tenant"], row["outcome"]) for row in log["leases"]} == {(done["id"], "alpha", "done")}
    (sums,) = log["tenants"]
    assert (sums["tenant"], sums["leases"], sums["gpu_s"]) == ("alpha", len(log["leases"]), 0.0)
    assert sums["cpu_s"] == pytest.approx(sum(row["held_s"] for row in log["leases"]))


@pytest.mark.skipif(not GCC, reason="no gcc to build a driver's library with")
def test_the_devices_that_a_driver_knows_are_reported_and_those_withheld_are_not_lent(whole: Platform) -> None:
    beta = whole.nodes["beta"]

    def lent() -> list[tuple[str, int]]:
        (node,) = [n for n in whole.admin.nodes.list() if n["name"] == "beta"]
        return [(device["uuid"], device["memory_mib"]) for device in node["devices"]]

    assert lent() == [("GPU-test-0", 8000), ("GPU-test-1", 8000)]
    assert status(beta)["devices"] == ["GPU-test-0", "GPU-test-1"]
    beta.hansa("policy", "set", "withheld_devices", "GPU-test-1")
    whole.until(lambda: lent() == [("GPU-test-0", 8000)], "the device taken back")


def test_a_node_that_is_well_passes_every_check_of_the_doctor(whole: Platform) -> None:
    checks = json.loads(whole.nodes["alpha"].hansa("doctor", "--json"))
    assert {"directory", "key", "certificate", "tls", "clock", "link tls", "agent"} <= {c["name"] for c in checks}
    assert [c for c in checks if not c["ok"]] == []


def test_a_directory_has_one_agent(whole: Platform) -> None:
    command = [*HANSA, "node", "run", "--dir", str(whole.nodes["alpha"].dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "an agent runs on" in done.stderr


def test_a_dataset_taken_back_is_told_at_once(whole: Platform) -> None:
    app = str(whole.client.apps.upload(APP)["app_digest"])
    beta = whole.nodes["beta"]
    beta.approve(app)
    beta.hansa("dataset", "unshare", "data", "--federation", FEDERATION)
    whole.until(lambda: refused(whole, app).get("beta") != set(), "the share taken back")
    beta.hansa("dataset", "share", "data", "--federation", FEDERATION)
    whole.until(lambda: refused(whole, app).get("beta") == set(), "the share given again")


def test_a_revoked_node_says_so(whole: Platform) -> None:
    beta = whole.nodes["beta"]
    node = next(n for n in whole.admin.nodes.list() if n["name"] == "beta")
    whole.admin.nodes.revoke(node["id"])
    whole.until(lambda: "refused" in status(beta)["agent"], "the farewell")
    assert "revoked" in status(beta)["agent"]
