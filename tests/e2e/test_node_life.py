"""A node beside a real coordinator: it runs nothing until people here say so, and says why it waits."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.platform import FEDERATION, HANSA, Node, Platform, platform, pretty

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
APP = Path(__file__).parents[1] / "apps" / "stateful"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("life"), ["alpha", "beta"]) as running:
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
