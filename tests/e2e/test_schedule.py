"""Many jobs over the same nodes: each tenant gets its share by the nodes' own logs, also across a killed coordinator."""

import json
import signal
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.platform import FEDERATION, platform

APP = Path(__file__).parents[1] / "apps" / "paced"
NODES = ("a", "b")
WEIGHTS = {"a": 2, "b": 1, "c": 1}
PAUSE = 0.15
HALF_LIFE_S = 1.5  # so short that who started when is soon forgotten

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    env = {"HANSA_SETTLE_S": "0.2", "HANSA_HALF_LIFE_S": str(HALF_LIFE_S)}
    with platform(tmp_path_factory.mktemp("shares"), NODES, env=env, arguments=["--sandbox", "none"]) as running:
        guest(running, "c")
        for node in running.nodes.values():
            node.hansa("policy", "set", "sandbox", "none")
        running.start_nodes()
        for site in NODES:
            for tenant, weight in WEIGHTS.items():
                running._clients[site].quotas.set_grant(site, tenant, {}, {}, weight, etag=None)
        running.digest = running.approve(APP)
        for tenant in ("b", "c"):
            running._clients[tenant].apps.upload(APP)
        yield running


def guest(running, name):
    """Let a tenant without nodes into the federation."""
    running.admin.tenants.create(name)
    running._clients[name] = running.speak(running.admin.tenants.create_token(name, "tenant_admin", name)["token"])
    running.client.federations.invite(FEDERATION, [name])
    running._clients[name].federations.accept(FEDERATION, name)


def submit(whole, tenant, **config):
    table = {"num-server-rounds": 10_000, "pause": PAUSE} | {k.replace("_", "-"): v for k, v in config.items()}
    return str(whole._clients[tenant].jobs.submit(FEDERATION, whole.digest, run_config=table, seed=1)["id"])


def rounds(whole, jobs):
    return [whole.client.jobs.get(job)["round"] for job in jobs]


def leases(whole, since):
    """Return what the nodes themselves say was held, by node."""
    logs = {name: json.loads(node.hansa("leases", "--json")) for name, node in whole.nodes.items()}
    return {name: [row for row in log["leases"] if row["start"] >= since] for name, log in logs.items()}


def steady(whole, jobs):
    """Wait until every job is at work and what was before is forgotten; return the beginning and end of what follows."""
    before = rounds(whole, jobs)
    whole.until(lambda: min(n - b for n, b in zip(rounds(whole, jobs), before, strict=True)) >= 2, "rounds", every=0.3)
    time.sleep(2 * HALF_LIFE_S)
    begun = whole.client.schedule.queue()["at"]
    time.sleep(3 * HALF_LIFE_S)
    return begun, whole.client.schedule.queue()


def test_backlogged_tenants_get_their_shares_by_the_nodes_logs_also_across_a_killed_coordinator(whole):
    owners = {submit(whole, tenant): tenant for tenant in ("a", "a", "b", "c")}
    windows = [steady(whole, owners)]
    whole.coordinator.kill(signal.SIGKILL)
    whole.start()
    windows.append(steady(whole, owners))
    for _, queue in windows:
        assert {row["job"] for row in queue["waiting"]} | {row["job"] for row in queue["leases"]} <= set(owners)
        for row in queue["waiting"]:
            assert row["code"]
            assert row["reason"]
    for job, tenant in owners.items():
        whole._clients[tenant].jobs.cancel(job)
    held = Counter()
    for rows in leases(whole, windows[0][0]).values():
        for begun, queue in windows:
            done = sorted(
                (row["start"], row["end"], row["tenant"], row["job"], row["held_s"])
                for row in rows
                if row["start"] >= begun and row["end"] and row["end"] <= queue["at"]
            )
            assert len(done) > 5
            assert all(owners[job] == tenant for _, _, tenant, job, _ in done)
            for (_, end, *_), (start, *_) in pairwise(done):
                assert end <= start  # one slot: one task at a time, whoever's
            for _, _, tenant, _, seconds in done:
                held[tenant] += seconds
    shares = {tenant: seconds / sum(held.values()) for tenant, seconds in held.items()}
    for tenant, weight in WEIGHTS.items():
        assert shares[tenant] == pytest.approx(weight / sum(WEIGHTS.values()), abs=0.1), shares


def test_a_round_that_waits_for_its_nodes_says_so_and_starts_when_they_are_free(whole):
    first = submit(whole, "b", pause=3.0, num_server_rounds=1)
    whole.until(lambda: whole.client.schedule.queue()["leases"], "lease")
    second = submit(whole, "c", num_server_rounds=1)
    whole.until(lambda: whole.client.schedule.queue()["waiting"], "waiting round")
    found = whole.client.schedule.queue()["waiting"][0]
    assert (found["job"], found["minimum"], sorted(found["nodes"])) == (second, 2, ["a", "b"])
    assert found["code"] in {"reserved", "no_capacity"}
    whole.until(lambda: "hansa queue why" in whole.client.jobs.get(second)["note"], "note of the job")
    assert [whole.finish(job)["state"] for job in (first, second)] == ["succeeded", "succeeded"]
    assert whole.client.schedule.queue()["waiting"] == []


def test_a_granted_lease_of_the_nodes_log_is_proven_from_the_journal(whole):
    name, rows = next(iter(leases(whole, "").items()))
    lease = next(row["lease"] for row in reversed(rows))
    told = whole.client.schedule.history(lease)
    assert told["proof"]["holds"]
    assert lease in {row["id"] for row in told["proof"]["granted"]}
    assert name in {row["node_name"] for row in told["proof"]["granted"]}
    assert "asked" in [row["event"] for row in told["rows"]]
