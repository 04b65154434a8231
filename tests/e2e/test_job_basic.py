"""One job through real processes: coordinator, agents, children, sockets, files and a database."""

from pathlib import Path

import pytest

from common.manifest import read_unverified
from tests.platform import platform as run_platform

pytestmark = pytest.mark.e2e
APPS = Path(__file__).parents[1] / "apps"
EVERY_ROUND = ["round_started", "round_aggregated", "round_started", "evaluated", "round_finished"]


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    with run_platform(tmp_path_factory.mktemp("jobs"), ["cleveland", "hungary"], arguments=["--sandbox", "none"]) as p:
        for node in p.nodes.values():
            node.hansa("policy", "set", "sandbox", "none")
        p.start_nodes()
        yield p


@pytest.fixture(scope="module")
def trained(platform):
    digest = platform.approve(APPS / "numpy_app")
    job = platform.submit(digest)
    return digest, platform.finish(job)


def _events(platform, job):
    return [(e["event"], e["facts"]) for e in platform.client.jobs.follow(job)]


def _weights(platform, job):
    """Return the digest of the arrays that a job published last."""
    models = platform.client.models
    versions = models.get("cleveland", "numpy-regression")["versions"]
    last = max(v["version"] for v in versions if v["job"] == job["id"])
    return read_unverified(models.manifest("cleveland", "numpy-regression", last)).blobs["weights"].digest


def test_a_job_trains_on_both_nodes_and_its_result_is_a_version(platform, trained):
    _, job = trained
    assert job["state"] == "succeeded", (job, platform.tail())
    versions = platform.client.models.get("cleveland", "numpy-regression")["versions"]
    assert [v["round"] for v in versions] == [3]
    assert versions[0]["job"] == job["id"]


def test_the_log_tells_every_step_in_order(platform, trained):
    names = [name for name, _ in _events(platform, trained[1]["id"])]
    steps = [n for n in names if n in {*EVERY_ROUND, "roster_fixed", "job_submitted", "job_succeeded"}]
    assert steps == ["job_submitted", "roster_fixed", *EVERY_ROUND * 3, "job_succeeded"]
    assert names.count("update_received") == 12


def test_the_same_seed_and_nodes_give_the_same_bytes(platform, trained):
    digest, first = trained
    second = platform.finish(platform.submit(digest))
    assert second["state"] == "succeeded"
    assert first["id"] != second["id"]
    assert _weights(platform, first) == _weights(platform, second)
