"""Jobs through real processes, and what a tenant may use: coordinator, agents, children, sockets, files, a database."""

from pathlib import Path

import pytest

from common.errors import PolicyDenied, TenantQuotaExceeded
from common.manifest import read_unverified
from tests.platform import platform as run_platform
from tests.platform import pretty

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


def allow(platform, **figures):
    """Set what is named of the tenant's allowance."""
    now = platform.admin.quotas.allowance("cleveland")
    kept = {name: now[name] for name in ("running_jobs", "queued_jobs", "stored_bytes")}
    return platform.admin.quotas.set_allowance("cleveland", **kept | figures, etag=now["etag"])


def job(platform, id_):
    return platform.client.jobs.get(id_)


def waits(platform, id_, words):
    platform.until(lambda: words in job(platform, id_)["note"], f"{words!r} in the note of {id_}")
    return job(platform, id_)


def test_jobs_wait_in_line_through_a_restart_and_start_one_after_the_other(platform, trained):
    allow(platform, running_jobs=0, queued_jobs=3)
    jobs = [platform.submit(trained[0], seed=seed) for seed in (1, 2, 3)]
    with pytest.raises(TenantQuotaExceeded, match="3 unfinished jobs: 0 may run and 3 may wait at once"):
        platform.submit(trained[0], seed=4)
    assert [waits(platform, j, "cleveland may run no jobs now")["state"] for j in jobs] == ["queued"] * 3
    platform.coordinator.kill()
    platform.start()
    assert [waits(platform, j, "cleveland may run no jobs now")["state"] for j in jobs] == ["queued"] * 3
    assert platform.client.jobs.cancel(jobs[1])["state"] == "cancelled"
    platform.until(lambda: all(node["online"] for node in platform.admin.nodes.list()), "nodes online")
    allow(platform, running_jobs=1)
    first, last = platform.finish(jobs[0]), platform.finish(jobs[2])
    assert [first["state"], last["state"]] == ["succeeded"] * 2, pretty(first) + pretty(last)
    assert last["started_at"] >= first["ended_at"]


def test_a_job_that_fills_the_store_stops_before_its_next_round_and_goes_on_when_there_is_room(platform, trained):
    before = platform.client.quotas.allowance("cleveland")["used"]["stored_bytes"]
    allow(platform, running_jobs=1, stored_bytes=before + 1)
    stopped = platform.submit(trained[0], seed=7)
    found = waits(platform, stopped, "would have")
    assert found["state"] == "waiting"
    assert "hansa quota set cleveland --coordinator --stored SIZE" in found["note"]
    with pytest.raises(TenantQuotaExceeded):
        platform.submit(trained[0], seed=8)
    used = platform.client.quotas.allowance("cleveland")["used"]
    assert used["stored_bytes"] > before
    assert used["running_jobs"] == 1
    allow(platform, stored_bytes=2**40)
    done = platform.finish(stopped)
    assert done["state"] == "succeeded", pretty(done)
    events = [e["event"] for e in platform.client.jobs.follow(stopped)]
    assert events.count("round_aggregated") == 3  # none was run twice


def test_what_a_tenant_has_stored_is_what_lies_there(platform, trained):
    platform.until(lambda: platform.client.quotas.allowance("cleveland")["used"]["running_jobs"] == 0, "end")
    used = platform.client.quotas.allowance("cleveland")["used"]
    lying = list((platform.dir / "blobs" / "cleveland").rglob("*"))
    assert used["stored_bytes"] == sum(path.stat().st_size for path in lying if path.is_file()) > 0


def test_a_tenant_cannot_widen_its_own_allowance(platform):
    etag = platform.client.quotas.allowance("cleveland")["etag"]
    with pytest.raises(PolicyDenied):
        platform.client.quotas.set_allowance(
            "cleveland", running_jobs=99, queued_jobs=99, stored_bytes=2**60, etag=etag
        )
