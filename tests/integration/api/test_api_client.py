"""The typed client and the REST face agree: every call of the one, over a real socket, to the other."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from common.client.client import Client
from common.errors import ChangedMeanwhile, Conflict, NotFound, PolicyDenied, TenantQuotaExceeded, Unauthenticated
from coordinator.domain.jobs import JobEvent, advance
from tests.integration.api.kit import API, Server
from tests.unit.api.world import JOB, NORTH_NODE, SOUTH_NODE, app_archive

pytestmark = pytest.mark.integration


@pytest.fixture
async def speak(world):
    """Return ``speak(who, function)``, which calls the function with a client of ``who`` off the loop."""
    async with Server(world, world.settings) as http:
        url = str(http.base_url).rstrip("/")

        async def call(who, function):
            def work():
                with Client(url, world.tokens[who]) as client:
                    return function(client)

            return await asyncio.to_thread(work)

        yield call
        await http.aclose()


async def test_tenants_tokens_and_federations(speak):
    assert (await speak("root", lambda c: c.tenants.create("west", "West")))["title"] == "West"
    assert [t["id"] for t in await speak("root", lambda c: c.tenants.list())] == ["east", "north", "south", "west"]
    assert (await speak("admin", lambda c: c.whoami()))["subject"] == "admin@north"
    made = await speak("admin", lambda c: c.tenants.create_token("north", "auditor", "eve"))
    assert made["token"].startswith("hat1_")
    await speak("admin", lambda c: c.tenants.revoke_token("north", made["id"]))
    listed = {t["id"]: t["revoked"] for t in await speak("admin", lambda c: c.tenants.tokens("north"))}
    assert listed[made["id"]] is True
    ticket = await speak("admin", lambda c: c.tenants.create_join_token("north", "lab"))
    assert ticket["token"] in ticket["command"]
    await speak("admin", lambda c: c.federations.create("lungs", ["south"]))
    await speak("admin", lambda c: c.federations.invite("lungs", ["east"]))
    await speak("stranger", lambda c: c.federations.accept("lungs"))
    await speak("partner_admin", lambda c: c.federations.accept("lungs", "south"))
    left = await speak("stranger", lambda c: c.federations.leave("lungs"))
    assert {m["tenant"]: m["acceptance"] for m in left["members"]} == {
        "north": "accepted",
        "south": "accepted",
        "east": "left",
    }


async def test_quotas(speak):
    none = {"gpu_milli": {}, "gpu_memory_mib": {}, "cpu_milli": None, "ram_mib": None}
    gpus = none | {"gpu_milli": {"cuda": 2000}}
    made = await speak("admin", lambda c: c.quotas.set_grant("north", "north", gpus, none, 2, etag=None))
    assert (made["guarantee"], made["limit"], made["weight"]) == (gpus, none, 2)
    assert made["warnings"]
    with pytest.raises(ChangedMeanwhile):
        await speak("admin", lambda c: c.quotas.set_grant("north", "north", none, none, 2, etag=None))
    changed = await speak("admin", lambda c: c.quotas.set_grant("north", "north", none, gpus, 3, etag=made["etag"]))
    with pytest.raises(ChangedMeanwhile):
        await speak("admin", lambda c: c.quotas.remove_grant("north", "north", etag=made["etag"]))
    assert [g["tenant"] for g in await speak("root", lambda c: c.quotas.grants("north"))] == ["north", "south"]
    assert [g["site"] for g in await speak("partner", lambda c: c.quotas.grants(tenant="south"))] == ["north"]
    await speak("admin", lambda c: c.quotas.remove_grant("north", "north", etag=changed["etag"]))
    with pytest.raises(NotFound):
        await speak("admin", lambda c: c.quotas.grant("north", "north"))
    before = await speak("admin", lambda c: c.quotas.allowance("north"))
    few = {"running_jobs": 0, "queued_jobs": 0, "stored_bytes": 0}
    with pytest.raises(PolicyDenied):
        await speak("admin", lambda c: c.quotas.set_allowance("north", **few, etag=before["etag"]))
    after = await speak("root", lambda c: c.quotas.set_allowance("north", **few, etag=before["etag"]))
    assert [a["default"] for a in await speak("root", lambda c: c.quotas.allowances())] == [True, False, True]
    with pytest.raises(TenantQuotaExceeded, match="0 may run and 0 may wait"):
        await speak("scientist", lambda c: c.jobs.submit("hearts", "a" * 64))
    assert await speak("root", lambda c: c.quotas.remove_allowance("north", etag=after["etag"])) == before


async def test_nodes(speak):
    assert {n["id"] for n in await speak("partner", lambda c: c.nodes.list())} == {NORTH_NODE, SOUTH_NODE}
    assert (await speak("admin", lambda c: c.nodes.get(NORTH_NODE)))["name"] == "ward"
    assert (await speak("admin", lambda c: c.nodes.revoke(NORTH_NODE)))["status"] == "revoked"


async def test_apps_and_jobs(world, speak, tmp_path):
    app = await speak("scientist", lambda c: c.apps.upload_archive(app_archive(tmp_path / "app")))
    assert app["app_digest"] == world.app
    plan = await speak("scientist", lambda c: c.jobs.plan("hearts", world.app))
    assert plan["placeable"] is True
    assert {n["name"] for n in plan["nodes"]} >= {"ward", "clinic"}
    job = await speak("scientist", lambda c: c.jobs.submit("hearts", world.app, run_config={"lr": 0.1}, seed=3))
    assert (job["state"], job["run_config"], job["seed"]) == ("queued", {"lr": 0.1}, 3)
    assert {j["id"] for j in await speak("scientist", lambda c: c.jobs.list())} == {job["id"], JOB}
    assert [j["id"] for j in await speak("scientist", lambda c: c.jobs.list("running"))] == [JOB]
    assert len(await speak("scientist", lambda c: c.jobs.rounds(JOB))) == 3
    assert await speak("scientist", lambda c: c.jobs.log(JOB)) == "server says hello\n"
    assert (await speak("scientist", lambda c: c.jobs.cancel(job["id"])))["state"] == "cancelled"


async def test_a_job_is_followed_to_its_end(world, speak):
    following = asyncio.create_task(speak("partner", lambda c: [e["event"] for e in c.jobs.follow(JOB)]))
    await asyncio.sleep(0.05)

    def end(tx):
        job = tx.jobs.get(JOB)
        tx.jobs.put(replace(job, state=advance(job.state, JobEvent.CANCELLED)))

    world.services.feed.note(JOB, "job_cancelled", by="test")
    await world.services.feed.commit(JOB, end)
    assert await following == ["round_aggregated"] * 3 + ["job_cancelled"]


async def test_models(world, speak, tmp_path):
    assert [m["model"] for m in await speak("scientist", lambda c: c.models.list())] == ["heart"]
    shown = await speak("scientist", lambda c: c.models.get("north", "heart"))
    assert [v["version"] for v in shown["versions"]] == [2, 1]
    assert (await speak("scientist", lambda c: c.models.version("north", "heart", 2)))["servable"] is True
    assert await speak("scientist", lambda c: c.models.manifest("north", "heart", 2))
    made = await speak(
        "scientist", lambda c: c.models.import_file("north", "lung", world.folder / "model.safetensors", "safetensors")
    )
    assert made["version"] == 1
    assert (await speak("scientist", lambda c: c.models.move_alias("north", "heart", "best", 2, 0)))["generation"] == 1
    placed = await speak("scientist", lambda c: c.models.deploy("north", "heart", 2, [NORTH_NODE]))
    assert [d["node_name"] for d in placed] == ["ward"]
    assert [d["version"] for d in await speak("scientist", lambda c: c.models.deployments())] == [2]


@pytest.mark.parametrize(
    ("who", "call", "error"),
    [
        ("stranger", lambda c: c.jobs.get(JOB), NotFound),
        ("auditor", lambda c: c.jobs.cancel(JOB), PolicyDenied),
        ("root", lambda c: c.tenants.create("north"), Conflict),
        ("nobody", lambda c: c.whoami(), Unauthenticated),
    ],
)
async def test_a_refusal_arrives_as_the_same_error(world, speak, who, call, error):
    world.tokens["nobody"] = "hat1_tok_0123456789abcdef." + "s" * 43
    with pytest.raises(error) as refused:
        await speak(who, call)
    assert API not in refused.value.detail
