"""What a tenant may use at the coordinator, over REST: limits that hold for uploads and submissions at once."""

from __future__ import annotations

import asyncio

from common.bundle import pack
from tests.unit.api.test_quotas import API, ok, refused
from tests.unit.api.world import EAST, JOB, NORTH, SOUTH, app_archive, safetensors


async def allow(world, tenant="north", **figures):
    """Let a tenant use so much at the coordinator; what is not named stays."""
    async with world.client("root") as root:
        now = ok(await root.get(f"{API}/allowances/{tenant}"))
        body = {name: now[name] for name in ("running_jobs", "queued_jobs", "stored_bytes")} | figures
        return ok(await root.put(f"{API}/allowances/{tenant}", json=body, headers={"If-Match": now["etag"]}))


async def test_an_allowance_is_the_default_until_it_is_set_and_after_it_is_removed(world):
    async with world.client("root") as root:
        plain = ok(await root.get(f"{API}/allowances/south"))
        assert (plain["default"], plain["running_jobs"], plain["set_at"]) == (True, 2, None)
        made = await allow(world, "south", running_jobs=0)
        assert (made["default"], made["running_jobs"], made["queued_jobs"], made["set_by"]) == (
            False,
            0,
            20,
            "root@platform",
        )
        refused(
            await root.put(f"{API}/allowances/south", json={}, headers={"If-Match": plain["etag"]}), 422, "bad_input"
        )
        stale = {"running_jobs": 5, "queued_jobs": 5, "stored_bytes": 5}
        refused(
            await root.put(f"{API}/allowances/south", json=stale, headers={"If-Match": plain["etag"]}),
            412, "changed_meanwhile",
        )  # fmt: skip
        again = ok(await root.delete(f"{API}/allowances/south", headers={"If-Match": made["etag"]}))
        assert again == plain
        listed = ok(await root.get(f"{API}/allowances"))["items"]
        assert [a["tenant"] for a in listed] == ["east", "north", "south"]
        for nobody in ("platform", "nobody"):
            refused(await root.get(f"{API}/allowances/{nobody}"), 404, "not_found")


async def submit(client, world, key=None, **more):
    headers = {"Idempotency-Key": key} if key else {}
    return await client.post(f"{API}/jobs", json={"federation": "hearts", "app": world.app, **more}, headers=headers)


async def test_a_full_queue_is_said_with_its_figures_and_a_retry_of_what_is_in_it_succeeds(world):
    await allow(world, running_jobs=1, queued_jobs=1)  # one job of north is running already
    async with world.client("scientist") as client, world.client("partner") as other:
        first = ok(await submit(client, world, "k"), 201)
        full = refused(await submit(client, world, "another"), 429, "tenant_quota_exceeded")
        assert "2 unfinished jobs: 1 may run and 1 may wait" in full["detail"]
        assert "hansa quota set north --coordinator --queued-jobs N" in full["next_step"]
        assert ok(await submit(client, world, "k"), 201)["id"] == first["id"]
        ok(await submit(other, world), 201)  # of south, whom north's queue is no matter
        ok(await client.post(f"{API}/jobs/{JOB}:cancel"))
        ok(await submit(client, world, "another"), 201)


async def test_submissions_at_once_do_not_pass_the_limit_together(world):
    await allow(world, running_jobs=1, queued_jobs=3)
    async with world.client("scientist") as client:
        answers = await asyncio.gather(*(submit(client, world, f"k{n}") for n in range(8)))
        assert sorted(a.status_code for a in answers) == [201] * 3 + [429] * 5
        use = ok(await client.get(f"{API}/allowances/north"))["used"]
    assert use["queued_jobs"] == 4  # no desk runs here, so all unfinished ones wait


async def stored(world, tenant=NORTH) -> int:
    return await world.store.read(lambda tx: tx.quotas.stored(tenant))


async def held(world, tenant=NORTH) -> set[str]:
    return {digest async for digest in world.services.blobs.list(tenant)}


async def upload(client, archive):
    return await client.post(f"{API}/apps", content=archive, headers={"Content-Type": "application/zip"})


def other_app(folder, number):
    app_archive(folder)
    (folder / "heart" / "client.py").write_text(f"number = {number}\n")
    return pack(folder)


async def test_what_is_stored_is_the_sum_of_the_tenants_blobs(world, tmp_path):
    for tenant in (NORTH, SOUTH, EAST):
        digests = await held(world, tenant)
        sizes = [len(await world.services.blobs.get_bytes(tenant, d, limit=2**30)) for d in digests]
        assert await stored(world, tenant) == sum(sizes) > 0
    async with world.client("scientist") as client:
        before, archive = await stored(world), other_app(tmp_path / "app", 1)
        for _ in range(2):
            ok(await upload(client, archive), 201)
        assert await stored(world) == before + len(archive)
        shown = ok(await client.get(f"{API}/allowances/north"))
    assert shown["used"]["stored_bytes"] == before + len(archive)


async def test_uploads_at_once_do_not_pass_the_limit_together(world, tmp_path):
    archives = [other_app(tmp_path / f"app{n}", n) for n in range(4)]
    before, room = await stored(world), max(len(a) for a in archives)
    await allow(world, stored_bytes=before + 2 * room)
    async with world.client("scientist") as client:
        answers = await asyncio.gather(*(upload(client, archive) for archive in archives))
        assert sorted(a.status_code for a in answers) == [201, 201, 429, 429]
        full = next(a for a in answers if a.status_code == 429)
        assert (
            "hansa quota set north --coordinator --stored SIZE"
            in refused(full, 429, "tenant_quota_exceeded")["next_step"]
        )
        known = next(archive for archive, a in zip(archives, answers, strict=True) if a.status_code == 201)
        ok(await upload(client, known), 201)  # what is there already costs nothing
    assert before < await stored(world) <= before + 2 * room


async def test_an_import_that_does_not_fit_leaves_nothing_behind(world):
    blobs, before = await held(world), await stored(world)
    model = safetensors(bytes(range(256)) * 16)
    await allow(world, stored_bytes=before + len(model))  # the weights fit, the manifest does not
    async with world.client("scientist") as client:
        headers = {"Content-Type": "application/octet-stream"}
        answer = await client.post(f"{API}/models/north/lung:import?format=safetensors", content=model, headers=headers)
        refused(answer, 429, "tenant_quota_exceeded")
        assert (await held(world), await stored(world)) == (blobs, before)
        refused(await client.get(f"{API}/models/north/lung"), 404, "not_found")
        await allow(world, stored_bytes=2**40)
        answer = await client.post(f"{API}/models/north/lung:import?format=safetensors", content=model, headers=headers)
        assert ok(answer, 201)["version"] == 1


async def test_only_so_many_uploads_of_a_tenant_are_taken_in_at_once(world, tmp_path):
    gate, archive, begun = asyncio.Event(), other_app(tmp_path / "app", 1), []

    async def slowly():
        begun.append(1)  # it is being read
        yield archive[:10]
        await gate.wait()
        yield archive[10:]

    async with world.client("scientist") as client, world.client("partner") as other:
        slow = [asyncio.create_task(upload(client, slowly())) for _ in range(world.settings.uploads_at_once)]
        while len(begun) < len(slow):
            await asyncio.sleep(0)
        assert "4 uploads of north" in refused(await upload(client, archive), 429, "tenant_quota_exceeded")["detail"]
        ok(await upload(other, archive), 201)
        gate.set()
        assert [a.status_code for a in await asyncio.gather(*slow)] == [201] * len(slow)
        ok(await upload(client, archive), 201)


async def test_a_full_store_takes_no_import_before_it_has_come(world):
    await allow(world, stored_bytes=await stored(world))

    async def never():
        raise AssertionError("the body was read")
        yield b""

    async with world.client("scientist") as client:
        headers = {"Content-Type": "application/octet-stream"}
        answer = await client.post(f"{API}/models/north/lung:import?format=onnx", content=never(), headers=headers)
        refused(answer, 429, "tenant_quota_exceeded")


async def test_a_full_store_takes_no_more_jobs(world):
    await allow(world, stored_bytes=await stored(world))
    async with world.client("scientist") as client:
        assert "stored" in refused(await submit(client, world), 429, "tenant_quota_exceeded")["detail"]
    async with world.client("partner") as other:
        ok(await submit(other, world), 201)
