"""Files both ways: whole, resumed, verified."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from client_node.adapters.grpc_channel import Channel, LinkOptions
from client_node.services.credentials import load_credentials
from common.errors import BadSignature, NotFound
from common.units import CHUNK, MIB
from common.wire import hansa_node_pb2 as pb
from tests.integration.link_files import LIMITS, SEVERAL, file_of, header, offer
from tests.integration.link_kit import TASK, Agent, Kit, NodeDir, eventually, node_id, open_kit, sha256

pytestmark = pytest.mark.integration


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = await open_kit(tmp_path, limits=LIMITS)
    made.desk.wanted[TASK] = True
    yield made
    await made.stop()


@pytest.mark.parametrize("size", [1, 1000, CHUNK, CHUNK + 1, len(SEVERAL)])
async def test_a_file_arrives_whole_at_either_end(kit: Kit, size: int) -> None:
    place, data = await kit.node("a"), SEVERAL[:size]
    target = kit.folder / "got"
    async with Agent(place, kit.address) as agent:
        await agent.link.download(offer(kit, data), target)
        assert target.read_bytes() == data
        result = await agent.link.upload(TASK, target, sha256(data), size)
    assert result.accepted
    (update,) = kit.desk.updates
    assert (update.task, update.node, update.digest, update.size) == (TASK, node_id(place), sha256(data), size)
    assert update.path.read_bytes() == data
    assert not target.with_name("got.part").exists()


async def test_the_end_of_an_update_waits_for_its_node(kit: Kit) -> None:
    place, path, last = await kit.node("a"), file_of(kit, SEVERAL), asyncio.Event()
    spooled = kit.spool.path(node_id(place), TASK, sha256(SEVERAL))
    async with Agent(place, kit.address) as agent:
        sending = asyncio.create_task(agent.link.upload(TASK, path, sha256(SEVERAL), len(SEVERAL), last=last))
        await eventually(lambda: kit.spool.held(spooled) > 0)
        done, _ = await asyncio.wait({sending}, timeout=0.3)
        assert not done
        assert kit.spool.held(spooled) < len(SEVERAL)
        assert not kit.desk.updates
        last.set()
        assert (await sending).accepted
    assert kit.desk.updates[0].path.read_bytes() == SEVERAL


async def test_several_nodes_move_files_at_once(kit: Kit) -> None:
    places = [await kit.node(f"n{i}") for i in range(4)]
    ref = offer(kit, SEVERAL)
    kit.desk.done_after = False

    async def both_ways(place: NodeDir) -> None:
        async with Agent(place, kit.address) as agent:
            await agent.link.download(ref, place.root / "got")
            assert (await agent.link.upload(TASK, place.root / "got", ref.digest, ref.size)).accepted

    await asyncio.gather(*(both_ways(place) for place in places))
    assert {update.path.read_bytes() == SEVERAL for update in kit.desk.updates} == {True}
    assert len({update.path for update in kit.desk.updates}) == 4


async def test_a_download_goes_on_where_it_stopped(kit: Kit) -> None:
    place, ref = await kit.node("a"), offer(kit, SEVERAL)
    target = kit.folder / "got"
    half = len(SEVERAL) // 2
    target.with_name("got.part").write_bytes(SEVERAL[:half])
    channel = Channel(kit.address, load_credentials(place), LinkOptions())
    call = channel.download(pb.DownloadRequest(digest=ref.digest, offset=half))
    assert await call.read() == SEVERAL[half : half + CHUNK]
    call.cancel()
    await channel.close()
    async with Agent(place, kit.address) as agent:
        await agent.link.download(ref, target)
    assert target.read_bytes() == SEVERAL


async def test_a_damaged_partial_download_is_thrown_away_and_fetched_again(kit: Kit) -> None:
    place, ref = await kit.node("a"), offer(kit, SEVERAL)
    target = kit.folder / "got"
    target.with_name("got.part").write_bytes(b"x" * MIB)
    async with Agent(place, kit.address) as agent:
        await agent.link.download(ref, target)
    assert target.read_bytes() == SEVERAL


async def test_content_that_is_not_what_its_digest_names_never_gets_its_name(kit: Kit) -> None:
    place = await kit.node("a")
    ref = offer(kit, b"y" * 1000, as_digest_of=b"x" * 1000)
    longer = offer(kit, b"z" * 1001)
    longer.size = 1000
    async with Agent(place, kit.address) as agent:
        with pytest.raises(BadSignature):
            await agent.link.download(ref, kit.folder / "got")
        with pytest.raises(BadSignature):
            await agent.link.download(longer, kit.folder / "got")
    assert not (kit.folder / "got").exists()
    assert not (kit.folder / "got.part").exists()


async def test_what_was_not_offered_or_asked_for_is_not_found(kit: Kit) -> None:
    place, data = await kit.node("a"), b"data"
    async with Agent(place, kit.address) as agent:
        with pytest.raises(NotFound):
            await agent.link.download(pb.ContentRef(digest="0" * 64, size=1), kit.folder / "got")
        with pytest.raises(NotFound):
            await agent.link.upload("job_2/0/0", file_of(kit, data), sha256(data), len(data))


async def test_an_update_that_is_no_longer_wanted_is_not_sent(kit: Kit) -> None:
    place = await kit.node("a")
    kit.desk.wanted[TASK] = False
    async with Agent(place, kit.address) as agent:
        result = await agent.link.upload(TASK, file_of(kit, SEVERAL), sha256(SEVERAL), len(SEVERAL))
        small = await agent.link.upload(TASK, file_of(kit, b"s"), sha256(b"s"), 1)
    assert (result.accepted, result.code) == (small.accepted, small.code) == (True, "done")
    assert kit.desk.updates == []


async def test_a_refused_update_is_told_with_its_reason_and_its_file_is_recycled(kit: Kit) -> None:
    place = await kit.node("a")
    kit.desk.verdict = (False, "bad_update", "NaN in w")
    async with Agent(place, kit.address) as agent:
        result = await agent.link.upload(TASK, file_of(kit, SEVERAL), sha256(SEVERAL), len(SEVERAL))
    assert (result.accepted, result.code, result.message) == (False, "bad_update", "NaN in w")
    assert not kit.desk.updates[0].path.exists()
    assert len(list((kit.folder / "spool").glob("*.free"))) == 1


async def test_an_upload_cut_ten_times_sends_at_most_a_tenth_more_than_its_size(kit: Kit) -> None:
    place = await kit.node("a")
    node, data = node_id(place), random.Random(3).randbytes(32 * MIB)
    sent = 0
    for cut in range(10):
        channel = Channel(kit.address, load_credentials(place), LinkOptions())
        key = pb.UploadKey(task=TASK, digest=sha256(data), size=len(data))
        offset = (await channel.upload_offset(key)).offset
        assert offset >= cut * 3 * MIB, "what had come was kept"
        call = channel.upload(metadata=header(data, offset=offset))
        for at in range(offset, offset + 3 * MIB, CHUNK // 2):
            await call.write(data[at : at + CHUNK // 2])
            sent += CHUNK // 2
        path = kit.spool.path(node, TASK, sha256(data))
        await eventually(lambda p=path, o=offset: kit.spool.held(p) >= o + 3 * MIB)
        await channel.close()
        await eventually(lambda: kit.hub.calls(node) == 0)
    async with Agent(place, kit.address) as agent:
        channel = Channel(kit.address, load_credentials(place), LinkOptions())
        sent += len(data) - (await channel.upload_offset(key)).offset
        await channel.close()
        assert (await agent.link.upload(TASK, file_of(kit, data), sha256(data), len(data))).accepted
    assert kit.desk.updates[0].path.read_bytes() == data
    assert sent <= 1.1 * len(data)


async def test_a_recycled_spool_file_never_shows_its_old_bytes(kit: Kit) -> None:
    place, node = await kit.node("a"), ""
    old, new = b"o" * (6 * MIB), SEVERAL[: 4 * MIB]
    path_old = kit.spool.path(node_id(place), TASK, sha256(old))
    kit.desk.verdict = (False, "no", "")
    async with Agent(place, kit.address) as agent:
        await agent.link.upload(TASK, file_of(kit, old), sha256(old), len(old))
    assert not path_old.exists()
    node = node_id(place)
    channel = Channel(kit.address, load_credentials(place), LinkOptions())
    call = channel.upload(metadata=header(new))
    await call.write(new[:MIB])
    path = kit.spool.path(node, TASK, sha256(new))
    await eventually(lambda: kit.spool.held(path) == MIB)
    assert path.stat().st_size == len(new), "the recycled file is cut to size, and longer than what has come"
    await channel.close()
    await eventually(lambda: kit.hub.calls(node) == 0)
    kit.desk.verdict = (True, "", "")
    async with Agent(place, kit.address) as agent:
        assert (await agent.link.upload(TASK, file_of(kit, new), sha256(new), len(new))).accepted
    assert path.read_bytes() == new


async def test_a_corrupted_prefix_left_by_an_earlier_try_heals(kit: Kit) -> None:
    place = await kit.node("a")
    kit.spool.path(node_id(place), TASK, sha256(SEVERAL)).write_bytes(b"x" * MIB)
    async with Agent(place, kit.address) as agent:
        assert (await agent.link.upload(TASK, file_of(kit, SEVERAL), sha256(SEVERAL), len(SEVERAL))).accepted
    assert kit.desk.updates[0].path.read_bytes() == SEVERAL
