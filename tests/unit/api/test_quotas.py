"""Grants over REST: seen before changed, one winner of two, and what is promised beyond the nodes is said."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from coordinator.domain.nodes import Device
from tests.unit.api.world import NORTH, NORTH_NODE, SOUTH

API = "/api/v1"
GRANT = f"{API}/grants/north/south"
NONE = {"gpu_milli": {}, "gpu_memory_mib": {}, "cpu_milli": None, "ram_mib": None}
BODY = {
    "guarantee": {"gpu_milli": {"cuda": 2500, "tpu": 1}, "gpu_memory_mib": {"cuda": 40960}, "ram_mib": 0},
    "limit": {"gpu_milli": {"cuda": 4000}, "cpu_milli": 8000},
    "weight": 7,
}


def ok(answer, status=200):
    assert answer.status_code == status, answer.text
    return answer.json()


def refused(answer, status, code):
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    return body


async def test_a_grant_is_read_back_as_it_was_set_and_its_tag_changes(world):
    async with world.client("admin") as admin:
        before = await admin.get(GRANT)
        assert before.headers["etag"] == before.json()["etag"]
        after = await admin.put(GRANT, json=BODY, headers={"If-Match": before.headers["etag"]})
        assert ok(after)["guarantee"] == NONE | BODY["guarantee"]
        assert after.json()["limit"] == NONE | BODY["limit"]
        assert (after.json()["weight"], after.json()["set_by"]) == (7, "admin@north")
        assert after.headers["etag"] == after.json()["etag"] != before.headers["etag"]
        assert ok(await admin.get(GRANT)) == after.json()
        assert ok(await admin.get(f"{API}/grants"))["items"] == [after.json() | {"warnings": []}]


async def test_what_is_left_out_of_a_grant_is_not_given(world):
    async with world.client("admin") as admin:
        made = ok(await admin.put(f"{API}/grants/north/north", json={}, headers={"If-None-Match": "*"}))
    assert (made["guarantee"], made["limit"], made["weight"]) == (NONE, NONE, 1)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 428, "precondition_required"),
        ({"If-Match": '"0"'}, 412, "changed_meanwhile"),
        ({"If-Match": "W/{tag}"}, 412, "changed_meanwhile"),  # RFC 9110 §13.1.1: strong comparison
        ({"If-None-Match": "*"}, 412, "changed_meanwhile"),
        ({"If-Match": "{tag}", "If-None-Match": "*"}, 400, "bad_input"),
        ({"If-None-Match": "{tag}"}, 400, "bad_input"),
        ({"If-Match": "bare"}, 400, "bad_input"),
    ],
)
async def test_a_change_must_say_what_it_changes(world, headers, status, code):
    async with world.client("admin") as admin:
        tag = (await admin.get(GRANT)).headers["etag"]
        filled = {name: value.replace("{tag}", tag) for name, value in headers.items()}
        refused(await admin.put(GRANT, json=BODY, headers=filled), status, code)
        refused(await admin.delete(GRANT, headers=filled), status, code)
        assert (await admin.get(GRANT)).headers["etag"] == tag
    assert world.wires.quotas == []


async def test_one_of_several_tags_is_enough(world):
    async with world.client("admin") as admin:
        tag = (await admin.get(GRANT)).headers["etag"]
        ok(await admin.put(GRANT, json=BODY, headers={"If-Match": f'"0", {tag}'}))


async def test_a_repeated_put_is_one_change(world):
    async with world.client("admin") as admin:
        first = await admin.get(GRANT)
        once = ok(await admin.put(GRANT, json=BODY, headers={"If-Match": first.headers["etag"]}))
        again = ok(await admin.put(GRANT, json=BODY, headers={"If-Match": first.headers["etag"]}))
    assert once == again
    assert len(world.wires.quotas) == 1


async def test_of_two_writers_at_once_one_is_told(world):
    async with world.client("admin") as admin:
        for turn in range(5):
            tag = (await admin.get(GRANT)).headers["etag"]
            puts = [admin.put(GRANT, json={"weight": 10 * turn + n + 20}, headers={"If-Match": tag}) for n in (1, 2)]
            answers = await asyncio.gather(*puts)
            assert sorted(a.status_code for a in answers) == [200, 412]
            winner = next(a for a in answers if a.status_code == 200)
            assert ok(await admin.get(GRANT))["weight"] == winner.json()["weight"]


async def test_a_grant_that_was_removed_cannot_be_changed_by_its_old_tag(world):
    async with world.client("admin") as admin:
        tag = (await admin.get(GRANT)).headers["etag"]
        assert (await admin.delete(GRANT, headers={"If-Match": tag})).status_code == 204
        refused(await admin.get(GRANT), 404, "not_found")
        refused(await admin.put(GRANT, json=BODY, headers={"If-Match": tag}), 412, "changed_meanwhile")
        refused(await admin.delete(GRANT, headers={"If-Match": tag}), 404, "not_found")
        ok(await admin.put(GRANT, json=BODY, headers={"If-None-Match": "*"}))


async def test_the_scheduler_is_told_of_every_change_and_of_nothing_else(world):
    async with world.client("admin") as admin:
        made = await admin.put(f"{API}/grants/north/north", json={"weight": 4}, headers={"If-None-Match": "*"})
        await admin.put(f"{API}/grants/north/north", json={"weight": 0}, headers={"If-Match": "*"})
        await admin.put(f"{API}/grants/north/east", json={"weight": 2}, headers={"If-None-Match": "*"})
        await admin.delete(f"{API}/grants/north/north", headers={"If-Match": made.headers["etag"]})
    (first, second) = world.wires.quotas
    assert first[:2] == (NORTH, NORTH)
    assert first[2].weight == 4
    assert second == (NORTH, NORTH, None)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"guarantee": {"gpu_milli": {"cuda": 3}}, "limit": {"gpu_milli": {"cuda": 2}}}, 400, "0.003 cuda is over the limit of 0.002 cuda"),
        ({"guarantee": {"ram_mib": 2}, "limit": {"ram_mib": 1}}, 400, "2 MiB of RAM"),
        ({"guarantee": {"cpu_milli": 2500}, "limit": {"cpu_milli": 2000}}, 400, "2.5 CPUs"),
        ({"guarantee": {"gpu_memory_mib": {"rocm": 2}}, "limit": {"gpu_memory_mib": {"rocm": 1}}}, 400, "rocm memory"),
        ({"weight": 0}, 422, "weight"),
        ({"guarantee": {"gpu_milli": {"npu": 1}}}, 422, "npu"),
        ({"guarantee": {"gpu_milli": {"cuda": -1}}}, 422, "cuda"),
        ({"limits": {}}, 422, "limits"),
    ],
)  # fmt: skip
async def test_terms_that_contradict_themselves_are_refused_with_the_figures(world, body, status, said):
    async with world.client("admin") as admin:
        answer = await admin.put(GRANT, json=body, headers={"If-Match": "*"})
    assert said in refused(answer, status, "bad_input")["detail"]


async def test_a_tenant_of_no_common_federation_looks_like_none_at_all(world):
    words = []
    async with world.client("admin") as admin:
        for name in ("east", "nobody"):
            answer = await admin.put(f"{API}/grants/north/{name}", json={}, headers={"If-None-Match": "*"})
            words.append(refused(answer, 404, "not_found")["detail"].replace(name, "X"))
    assert words[0] == words[1]


async def test_what_is_promised_beyond_the_nodes_is_said_to_the_site_only(world):
    devices = (Device("GPU-1", "cuda", "A100", 40000), Device("GPU-2", "cuda", "A100", 40000))

    def report(tx):
        node = tx.nodes.get(NORTH_NODE)
        tx.nodes.put(replace(node, report=replace(node.report, devices=devices)))

    await world.store.write(report)
    async with world.client("admin") as admin, world.client("partner_admin") as partner:
        body = {"guarantee": {"gpu_milli": {"cuda": 1500}, "gpu_memory_mib": {"cuda": 40000}}}
        assert ok(await admin.put(GRANT, json=body, headers={"If-Match": "*"}))["warnings"] == []
        own = ok(await admin.put(f"{API}/grants/north/north", json=body, headers={"If-None-Match": "*"}))
        assert own["warnings"] == ["the guarantees at this site add up to 3 cuda; its nodes have 2 cuda"]
        assert ok(await admin.get(GRANT))["warnings"] == own["warnings"]
        assert ok(await partner.get(GRANT))["warnings"] == []


async def test_what_is_held_now_stands_beside_the_limit_where_it_is_known(world):
    async with world.client("partner") as partner:
        assert ok(await partner.get(GRANT))["held"] == NONE | {
            "gpu_milli": {"cuda": 500},
            "cpu_milli": 1000,
            "ram_mib": 4096,
        }
    async with world.client("admin") as admin:
        made = ok(await admin.put(f"{API}/grants/north/north", json={}, headers={"If-None-Match": "*"}))
    assert made["held"] is None


async def test_grants_are_listed_by_site_and_tenant_as_far_as_they_may_be_seen(world):
    async with world.client("admin") as admin:
        ok(await admin.put(f"{API}/grants/north/north", json={}, headers={"If-None-Match": "*"}))

    async def pairs(who, query=""):
        async with world.client(who) as client:
            items = ok(await client.get(f"{API}/grants{query}"))["items"]
        return [(g["site"], g["tenant"]) for g in items]

    assert await pairs("admin") == await pairs("root") == [(NORTH, NORTH), (NORTH, SOUTH)]
    assert await pairs("root", "?tenant=south") == await pairs("partner") == [(NORTH, SOUTH)]
    assert await pairs("root", "?site=south") == await pairs("stranger") == []
