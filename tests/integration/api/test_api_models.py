"""Models through the REST face: imported, named, fetched, deployed."""

from __future__ import annotations

import base64
import json

from tests.integration.api.kit import API, ok
from tests.unit.api.world import NORTH_NODE, NORTH_PRIVATE, SOUTH_NODE

V2 = f"{API}/models/north/heart/versions/2"


async def test_an_alias_moves_only_from_where_it_was_seen(world):
    path = f"{API}/models/north/heart/aliases/best"
    async with world.client("scientist") as north:
        moved = await north.put(path, json={"version": 1, "expected_generation": 0})
        assert (ok(moved)["generation"], moved.headers["etag"]) == (1, '"1"')
        assert ok(await north.put(path, json={"version": 2, "expected_generation": 0}), 409)["code"] == "conflict"
        assert ok(await north.put(path, json={"version": 2, "expected_generation": 1}))["generation"] == 2
        ok(await north.put(path, json={"version": 9, "expected_generation": 2}), 404)
        aliases = {a["name"]: a["version"] for a in ok(await north.get(f"{API}/models/north/heart"))["aliases"]}
        assert aliases == {"best": 2, "latest": 1}


async def test_objects_are_sent_whole_in_ranges_or_not_at_all(world):
    async with world.client("scientist") as north:
        record = await north.get(V2)
        envelope = await north.get(f"{V2}/manifest")
        assert envelope.headers["etag"] == record.headers["etag"] == f'"{record.json()["manifest"]}"'
        assert len(envelope.content) == record.json()["manifest_size"]
        weights = json.loads(base64.b64decode(envelope.json()["payload"]))["blobs"]["weights"]
        url = f"{V2}/blobs/{weights['digest']}"
        whole = await north.get(url)
        size = weights["size"]
        assert (whole.status_code, len(whole.content)) == (200, size)
        tag = {"If-None-Match": whole.headers["etag"]}
        assert (await north.get(url, headers=tag)).status_code == 304
        assert (
            await north.get(f"{V2}/manifest", headers={"If-None-Match": envelope.headers["etag"]})
        ).status_code == 304
        for asked, start, end in (
            ("bytes=0-0", 0, 1),
            ("bytes=5-", 5, size),
            ("bytes=-4", size - 4, size),
            ("bytes=2-999999", 2, size),
        ):
            part = await north.get(url, headers={"Range": asked})
            assert (part.status_code, part.content) == (206, whole.content[start:end])
            assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        for asked in (f"bytes={size}-", "bytes=-0"):
            outside = await north.get(url, headers={"Range": asked})
            assert ok(outside, 416)["code"] == "range_not_satisfiable"
            assert outside.headers["content-range"] == f"bytes */{size}"
        for odd in ("bytes=5-2", "bytes=-", "lines=1-2", "bytes=0-1,3-4", "bytes=a-b"):
            assert (await north.get(url, headers={"Range": odd})).status_code == 200
        ok(
            await north.get(f"{V2}/blobs/{record.json()['manifest']}"), 404
        )  # a blob of the tenant, but none of the version


async def test_a_version_is_deployed_where_its_deployer_may(world):
    async with world.client("scientist") as north, world.client("partner") as south:
        ok(await south.post(f"{V2}:deploy", json={"nodes": [NORTH_NODE]}), 403)
        ok(await south.post(f"{V2}:deploy", json={"nodes": [NORTH_PRIVATE]}), 404)
        ok(await north.post(f"{V2}:deploy", json={"nodes": ["node_" + "z" * 16]}), 404)
        ok(await north.post(f"{V2}:deploy", json={"nodes": ["ward"]}), 422)
        (made,) = ok(await south.post(f"{V2}:deploy", json={"nodes": [SOUTH_NODE]}))["items"]
        assert (made["node"], made["node_name"], made["state"], made["wanted"]) == (
            SOUTH_NODE,
            "clinic",
            "pending",
            True,
        )
        ok(await north.post(f"{V2}:deploy", json={"nodes": [NORTH_NODE, SOUTH_NODE]}))
        assert {d["node"] for d in ok(await north.get(f"{API}/deployments"))["items"]} == {NORTH_NODE, SOUTH_NODE}
        assert {d["node"] for d in ok(await south.get(f"{API}/deployments"))["items"]} == {SOUTH_NODE}
        assert ok(await north.post(f"{API}/models/north/heart/versions/1:deploy"), 400)["code"] == "bad_input"


async def test_a_model_is_imported_and_named(world):
    binary = {"Content-Type": "application/octet-stream"}
    content = (world.folder / "model.safetensors").read_bytes()
    async with world.client("scientist") as north:
        url = f"{API}/models/north/lung:import?format=safetensors"
        assert ok(await north.post(url, content=content, headers=binary), 201)["version"] == 1
        assert ok(await north.post(url, content=content, headers=binary), 201)["version"] == 2
        names = [(m["model"], m["versions"]) for m in ok(await north.get(f"{API}/models"))["items"]]
        assert names == [("heart", 2), ("lung", 2)]
    async with world.client("partner") as south:
        ok(await south.get(f"{API}/models/north/lung"), 404)
    assert list(world.services.blobs.work_dir().iterdir()) == []
