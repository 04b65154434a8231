"""The REST face over a real store: what callers do with it, in their order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.crypto.keys import new_p256
from common.crypto.x509 import make_csr, read_node_cert
from coordinator.domain.jobs import RosterEntry
from coordinator.domain.nodes import NodeStatus
from coordinator.services.nodelogs import NodeLogs
from tests.integration.api.kit import API, ok
from tests.unit.api.world import EAST, HEARTS, JOB, NORTH, NORTH_NODE, NORTH_PRIVATE, SOUTH_NODE, job


async def test_a_new_organisation_comes_in_and_its_node_joins(world):
    async with world.client("root") as root:
        ok(await root.post(f"{API}/tenants", json={"id": "west", "title": "West"}), 201)
        assert ok(await root.post(f"{API}/tenants", json={"id": "west"}), 409)["code"] == "conflict"
        made = ok(await root.post(f"{API}/tenants/west/tokens", json={"role": "tenant_admin", "subject": "wendy"}), 201)
    world.tokens["west"] = made["token"]
    async with world.client("west") as west:
        who = ok(await west.get(f"{API}/whoami"))
        assert (who["subject"], who["tenants"], who["roles"]) == ("wendy", ["west"], ["tenant_admin"])
        ticket = ok(await west.post(f"{API}/tenants/west/join-tokens", json={"node_name": "lab", "ttl_s": 60}), 201)
        assert ticket["command"] == f"hansa node join https://hub.test --token {ticket['token']}"
        async with world.client() as nobody:
            ca = ok(await nobody.get(f"{API}/ca"))
            assert "BEGIN CERTIFICATE" in ca["pem"]
            body = {"token": ticket["token"], "csr": make_csr(new_p256()).decode(), "name": "lab"}
            node = ok(await nobody.post(f"{API}/join", json=body), 201)
            assert (node["tenant"], node["name"], node["manifest_keys"]) == ("west", "lab", {"k1": "00" * 32})
            named = read_node_cert(node["certificate"].encode())
            assert (named.tenant, named.node) == ("west", node["node"])
            other = body | {"csr": make_csr(new_p256()).decode()}
            assert ok(await nobody.post(f"{API}/join", json=other), 409)["code"] != ""  # the token is burnt
        (listed,) = ok(await west.get(f"{API}/nodes"))["items"]
        assert (listed["id"], listed["state"], listed["online"]) == (node["node"], "never connected", False)


async def test_secrets_are_shown_once_and_kept_hashed(world):
    async with world.client("admin") as admin:
        made = ok(await admin.post(f"{API}/tenants/north/tokens", json={"role": "auditor", "subject": "eve"}), 201)
        secret = made["token"].rpartition(".")[2]
        assert secret not in (await admin.get(f"{API}/tenants/north/tokens")).text
    await world.store.close()
    for file in world.folder.glob("hub.sqlite*"):
        assert secret.encode() not in file.read_bytes()


async def test_a_token_ends_when_it_expires_or_is_revoked(world):
    async with world.client("admin") as admin:
        short = ok(
            await admin.post(f"{API}/tenants/north/tokens", json={"role": "auditor", "subject": "e", "ttl_s": 60}), 201
        )
        lasting = ok(await admin.post(f"{API}/tenants/north/tokens", json={"role": "auditor", "subject": "f"}), 201)
    world.tokens |= {"short": short["token"], "lasting": lasting["token"]}
    async with world.client("short") as eve, world.client("lasting") as fay, world.client("admin") as admin:
        ok(await eve.get(f"{API}/whoami"))
        world.clock.advance(59)
        ok(await eve.get(f"{API}/whoami"))
        world.clock.advance(1)
        ok(await eve.get(f"{API}/whoami"), 401)
        ok(await fay.get(f"{API}/whoami"))
        gone = ok(await admin.delete(f"{API}/tenants/north/tokens/{lasting['id']}"))
        assert gone["revoked"] is True
        ok(await fay.get(f"{API}/whoami"), 401)
        ok(await admin.delete(f"{API}/tenants/north/tokens/{lasting['id']}"))


async def test_a_token_of_one_tenant_cannot_be_revoked_through_another(world):
    async with world.client("root") as root:
        south = ok(await root.get(f"{API}/tenants/south/tokens"))["items"][0]["id"]
        ok(await root.delete(f"{API}/tenants/north/tokens/{south}"), 404)


async def test_tenants_agree_to_a_federation_and_leave_it(world):
    async with world.client("admin") as north, world.client("stranger") as east:
        ok(await north.post(f"{API}/federations", json={"id": "lungs", "tenants": ["nowhere"]}), 404)
        made = ok(await north.post(f"{API}/federations", json={"id": "lungs", "tenants": ["east"]}), 201)
        assert made["members"] == [
            {"tenant": "east", "acceptance": "invited"},
            {"tenant": "north", "acceptance": "accepted"},
        ]
        job = {"federation": "lungs", "app": world.app}
        ok(await east.get(f"{API}/federations/lungs"))
        assert ok(await east.post(f"{API}/jobs", json=job), 403)["code"] == "policy_denied"  # invited is not agreed
        ok(await east.post(f"{API}/federations/lungs:accept", json={"tenant": "north"}), 403)
        ok(await east.post(f"{API}/federations/lungs:accept"))
        assert (
            ok(await east.post(f"{API}/jobs", json=job), 403)["code"] == "not_placeable"
        )  # agreed, but there is no node
        ok(await east.post(f"{API}/federations/lungs:leave", json={"tenant": "east"}))
        ok(await east.get(f"{API}/federations/lungs"), 404)
        ok(await east.post(f"{API}/jobs", json=job), 404)
        ok(await east.post(f"{API}/federations/lungs:accept"), 404)  # who left needs a new invitation
        again = ok(await north.post(f"{API}/federations/lungs:invite", json={"tenants": ["east"]}))
        assert {"tenant": "east", "acceptance": "invited"} in again["members"]
        ok(await east.post(f"{API}/federations/lungs:accept"))


async def test_who_agreed_to_means_is_asked_again_before_apps_see_single_replies(world):
    async with world.client("admin") as north, world.client("stranger") as east:
        ok(await north.post(f"{API}/federations", json={"id": "lungs", "tenants": ["east"]}), 201)
        ok(await east.post(f"{API}/federations/lungs:accept"))

        async def change(value):
            made = ok(await north.post(f"{API}/federations/lungs:change", json={"individual_replies": value}))
            return made["individual_replies"], {m["tenant"]: m["acceptance"] for m in made["members"]}

        assert await change(False) == (False, {"north": "accepted", "east": "accepted"})
        assert await change(True) == (True, {"north": "accepted", "east": "invited"})
        ok(await east.post(f"{API}/federations/lungs:accept"))
        assert await change(True) == (True, {"north": "accepted", "east": "accepted"})
        assert await change(False) == (False, {"north": "accepted", "east": "accepted"})  # less is no question
        ok(await east.post(f"{API}/federations/lungs:change", json={"individual_replies": True}), 403)


async def test_what_was_shared_is_hidden_again_when_a_tenant_leaves(world):
    async with world.client("partner") as scientist, world.client("partner_admin") as admin:
        ok(await scientist.get(f"{API}/jobs/{JOB}"))
        ok(await admin.post(f"{API}/federations/hearts:leave"))
        for path in (f"/jobs/{JOB}", f"/nodes/{NORTH_NODE}", "/models/north/heart", "/federations/hearts"):
            ok(await scientist.get(API + path), 404)
        for path in ("/jobs", "/models"):
            assert ok(await scientist.get(API + path))["items"] == []


async def test_a_partner_sees_what_is_shared_and_nothing_else(world):
    async with world.client("partner") as south:
        nodes = {n["id"]: n for n in ok(await south.get(f"{API}/nodes"))["items"]}
        assert set(nodes) == {NORTH_NODE, SOUTH_NODE}
        assert nodes[NORTH_NODE]["serving"] == ""  # where a site serves is its own business
        assert nodes[SOUTH_NODE]["serving"] == "http://127.0.0.1:9999"
        ok(await south.get(f"{API}/nodes/{NORTH_PRIVATE}"), 404)
        model = ok(await south.get(f"{API}/models/north/heart"))
        assert [v["version"] for v in model["versions"]] == [2]  # version 1 was made outside the federation
        assert model["aliases"] == []  # `latest` names version 1
        ok(await south.get(f"{API}/models/north/heart/versions/1"), 404)
        ok(await south.get(f"{API}/jobs/{JOB}/logs"), 403)
        assert (await south.get(f"{API}/jobs/{JOB}/logs?source=clinic")).text == "clinic says hello\n"
        ok(await south.get(f"{API}/jobs/{JOB}/logs?source=ward"), 403)


async def test_an_owner_reads_the_logs_of_its_job(world):
    async with world.client("scientist") as north:
        assert (await north.get(f"{API}/jobs/{JOB}/logs")).text == "server says hello\n"
        assert (await north.get(f"{API}/jobs/{JOB}/logs?source=ward")).text == ""  # shares none
        ok(await north.get(f"{API}/jobs/{JOB}/logs?source=elsewhere"), 404)
        for path in ("../server", "south/../server", "south/clinic/x", "/clinic", "south/"):
            ok(await north.get(f"{API}/jobs/{JOB}/logs", params={"source": path}), 422)


async def test_nodes_of_the_same_name_have_logs_of_their_own(world):
    twins = tuple(replace(entry, name="server" if entry.tenant == NORTH else "ward") for entry in job().roster)
    twins += (RosterEntry(NORTH_PRIVATE, NORTH, "ward", 13, 2),)
    await world.services.store.write(lambda tx: tx.jobs.put(replace(job(), roster=twins)))
    logs = NodeLogs(world.services.jobs_dir)
    for entry in twins:
        await logs.append(JOB, entry, f"{entry.tenant}/{entry.name}\n")
    async with world.client("scientist") as north, world.client("partner") as south:
        for entry in twins:
            name = f"{entry.tenant}/{entry.name}"
            assert (await north.get(f"{API}/jobs/{JOB}/logs", params={"source": name})).text == f"{name}\n"
        assert (await north.get(f"{API}/jobs/{JOB}/logs?source=server")).text == "server says hello\n"
        refused = ok(await north.get(f"{API}/jobs/{JOB}/logs?source=ward"), 400)
        assert "north/ward, south/ward" in refused["detail"]
        assert (await south.get(f"{API}/jobs/{JOB}/logs?source=south/ward")).text == "south/ward\n"
        ok(await south.get(f"{API}/jobs/{JOB}/logs?source=north/ward"), 403)


async def test_a_nodes_state_is_a_sentence(world):
    async with world.client("admin") as admin:

        async def state(node):
            return ok(await admin.get(f"{API}/nodes/{node}"))["state"]

        assert await state(NORTH_NODE) == "online"
        assert await state(SOUTH_NODE) == "offline since 1970-01-12T13:46:40.000Z"
        assert ok(await admin.post(f"{API}/nodes/{NORTH_NODE}:revoke"))["state"] == "revoked"
        assert NORTH_NODE not in world.wires.online
        found = await world.store.read(lambda tx: tx.nodes.get(SOUTH_NODE))
        await world.store.write(lambda tx: tx.nodes.put(replace(found, status=NodeStatus.QUARANTINED)))
        assert (await state(SOUTH_NODE)).startswith("quarantined")


async def test_the_same_idempotency_key_makes_one_job(world):
    body = {"federation": "hearts", "app": world.app, "run_config": {"lr": 0.5}, "seed": 9}
    async with world.client("scientist") as north, world.client("partner") as south:
        key = {"Idempotency-Key": "k1"}
        first = await north.post(f"{API}/jobs", json=body, headers=key)
        assert first.headers["location"] == f"{API}/jobs/{ok(first, 201)['id']}"
        assert ok(await north.post(f"{API}/jobs", json=body, headers=key), 201)["id"] == first.json()["id"]
        assert ok(await south.post(f"{API}/jobs", json=body, headers=key), 201)["id"] != first.json()["id"]
        assert ok(await north.post(f"{API}/jobs", json=body), 201)["id"] != first.json()["id"]
        assert (first.json()["run_config"]["lr"], first.json()["seed"]) == (0.5, 9)
        ok(await north.post(f"{API}/jobs", json=body, headers={"Idempotency-Key": "a b"}), 422)


@pytest.mark.parametrize("change", [{"seed": 10}, {"seed": None}, {"run_config": {"lr": 0.25}}, {"run_config": {}}])
async def test_a_known_idempotency_key_with_another_body_is_refused(world, change):
    body = {"federation": "hearts", "app": world.app, "run_config": {"lr": 0.5}, "seed": 9}
    key = {"Idempotency-Key": "k1"}
    async with world.client("scientist") as north:
        first = ok(await north.post(f"{API}/jobs", json=body, headers=key), 201)
        refused = ok(await north.post(f"{API}/jobs", json={**body, **change}, headers=key), 422)
        assert (refused["code"], first["id"] in refused["detail"]) == ("idempotency_mismatch", True)
        assert ok(await north.post(f"{API}/jobs", json=body, headers=key), 201)["id"] == first["id"]


async def test_a_job_reads_as_json_although_its_metrics_do_not(world):
    async with world.client("scientist") as north:
        job = ok(await north.get(f"{API}/jobs/{JOB}"))
        assert job["metrics"] == {"loss": None, "auc": 0.9}
        assert [entry["name"] for entry in job["roster"]] == ["ward", "clinic"]
        assert (job["state"], job["round"], job["rounds"], job["app"]) == ("running", 1, 3, "a" * 64)
        rounds = ok(await north.get(f"{API}/jobs/{JOB}/rounds"))["items"]
        assert rounds[1]["included"] == [{"node": NORTH_NODE, "name": "ward", "weight": 303.0}]
        assert rounds[1]["dropped"] == [{"node": SOUTH_NODE, "name": "clinic", "code": "app_raised", "message": "boom"}]
        assert ok(await north.post(f"{API}/jobs/{JOB}:cancel"))["state"] == "cancelled"


@pytest.mark.parametrize("size", [1, 2, 3, 200])
async def test_pages_hold_every_item_once_and_in_order(world, size):
    async with world.client("scientist") as north:
        for number in range(4):
            world.clock.advance(1)
            body = {"federation": "hearts", "app": world.app, "seed": number}
            ok(await north.post(f"{API}/jobs", json=body), 201)
        for path, key in (
            ("/jobs", "id"),
            (f"/jobs/{JOB}/events", "seq"),
            (f"/jobs/{JOB}/rounds", "seq"),
            ("/nodes", "id"),
        ):
            items, token = [], None
            while True:
                page = ok(
                    await north.get(API + path, params={"page_size": size} | ({"page_token": token} if token else {}))
                )
                assert len(page["items"]) <= size
                items += [item[key] for item in page["items"]]
                if (token := page["next_page_token"]) is None:
                    break
            assert len(items) == len(set(items))
            whole = ok(await north.get(f"{API}{path}?page_size=200"))["items"]
            assert items == [item[key] for item in whole]
            assert len(items) >= 3


async def test_jobs_are_filtered_by_state(world):
    async with world.client("scientist") as north:
        assert len(ok(await north.get(f"{API}/jobs?state=running"))["items"]) == 1
        assert ok(await north.get(f"{API}/jobs?state=failed"))["items"] == []
        ok(await north.get(f"{API}/jobs?state=sleeping"), 422)


async def test_ready_means_that_the_store_answers(world):
    async with world.client() as nobody:
        assert ok(await nobody.get("/readyz"))["store"] == "ok"
        await world.store.close()
        assert (await nobody.get("/healthz")).status_code == 200
        assert (await nobody.get("/readyz")).status_code == 503


async def test_the_federation_hears_of_no_foreign_tenants(world):
    """Ids of other organisations are not in what a stranger can list."""
    async with world.client("stranger") as east:
        for path in ("/tenants", "/nodes", "/federations", "/jobs", "/models", "/deployments"):
            text = (await east.get(API + path)).text
            assert not any(word in text for word in (NORTH, "south", HEARTS, "ward", "clinic"))
        assert [t["id"] for t in ok(await east.get(f"{API}/tenants"))["items"]] == [EAST]
