"""Files both ways: resumed in mid-chunk across kills, verified, within limits."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from client_node.adapters.grpc_channel import Channel, LinkOptions
from client_node.services.credentials import load_credentials
from common.clock import SystemClock
from common.errors import BadSignature, NotFound, QuotaExceeded
from common.units import CHUNK, MIB, Bytes, Seconds
from common.wire import hansa_node_pb2 as pb
from common.wire import methods
from coordinator.rpc import spool as spool_module
from coordinator.rpc.limits import LinkLimits
from tests.integration.link_kit import TASK, Agent, Kit, NodeDir, eventually, node_id, open_kit, sha256
from tests.integration.test_link_stream import joined_node, start_server

pytestmark = pytest.mark.integration
LIMITS = LinkLimits(update_bytes=Bytes(40 * MIB), spool_bytes=Bytes(80 * MIB), stall_s=Seconds(20))
Header = tuple[tuple[str, str], ...]
SEVERAL = random.Random(7).randbytes(9 * MIB + 12_345)  # not a whole number of chunks


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = await open_kit(tmp_path, limits=LIMITS)
    made.desk.wanted[TASK] = True
    yield made
    await made.stop()


def offer(kit: Kit, data: bytes, *, as_digest_of: bytes | None = None) -> pb.ContentRef:
    digest = sha256(data if as_digest_of is None else as_digest_of)
    path = kit.folder / f"offer-{digest[:8]}"
    path.write_bytes(data)
    kit.desk.files[digest] = path
    return pb.ContentRef(digest=digest, size=len(data))


def file_of(kit: Kit, data: bytes) -> Path:
    path = kit.folder / f"kept-{sha256(data)[:8]}"
    path.write_bytes(data)
    return path


def header(data: bytes, *, task: str = TASK, size: int | None = None, offset: int = 0, digest: str = "") -> Header:
    return (
        ("hansa-task", task),
        ("hansa-digest", digest or sha256(data)),
        ("hansa-size", str(len(data) if size is None else size)),
        ("hansa-offset", str(offset)),
    )


async def push(kit: Kit, place: NodeDir, head: Header, data: bytes, chunk: int = CHUNK) -> tuple[str, str]:
    """Send ``data`` as a hostile or careless node would; return the status and the code in the trailers."""

    def send() -> tuple[str, str]:
        mine = load_credentials(place)
        credentials = grpc.ssl_channel_credentials(mine.ca, mine.key, mine.certificate)
        with grpc.secure_channel(kit.address, credentials, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.stream_unary(methods.UPLOAD, methods.raw, pb.UploadResult.FromString)
            try:
                call((data[at : at + chunk] for at in range(0, len(data), chunk)), metadata=head, timeout=30)
            except grpc.RpcError as error:
                return error.code().name, dict(error.trailing_metadata()).get("hansa-code", "")
        return "OK", ""

    return await asyncio.to_thread(send)


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


async def test_a_corrupted_chunk_is_found_and_the_update_dropped(kit: Kit) -> None:
    place = await kit.node("a")
    channel = Channel(kit.address, load_credentials(place), LinkOptions())
    bad = bytearray(SEVERAL)
    bad[5 * MIB] ^= 1
    assert await push(kit, place, header(SEVERAL), bytes(bad)) == ("DATA_LOSS", "wrong_digest")
    key = pb.UploadKey(task=TASK, digest=sha256(SEVERAL), size=len(SEVERAL))
    assert (await channel.upload_offset(key)).offset == 0
    await channel.close()
    assert kit.desk.updates == []
    async with Agent(place, kit.address) as agent:
        assert (await agent.link.upload(TASK, file_of(kit, SEVERAL), sha256(SEVERAL), len(SEVERAL))).accepted


async def test_a_corrupted_prefix_left_by_an_earlier_try_heals(kit: Kit) -> None:
    place = await kit.node("a")
    kit.spool.path(node_id(place), TASK, sha256(SEVERAL)).write_bytes(b"x" * MIB)
    async with Agent(place, kit.address) as agent:
        assert (await agent.link.upload(TASK, file_of(kit, SEVERAL), sha256(SEVERAL), len(SEVERAL))).accepted
    assert kit.desk.updates[0].path.read_bytes() == SEVERAL


async def test_hostile_uploads_are_refused_with_a_code_and_leave_nothing_behind(kit: Kit) -> None:
    place = await kit.node("a")
    exhausted, invalid = "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"
    some = SEVERAL[: 2 * MIB]
    assert await push(kit, place, header(some, size=MIB), some) == (exhausted, "longer_than_announced")
    assert await push(kit, place, header(some, size=41 * MIB), some) == (exhausted, "quota_exceeded")
    assert await push(kit, place, header(some, size=0), b"") == (exhausted, "quota_exceeded")
    assert await push(kit, place, header(some), some, chunk=CHUNK + 1) == (exhausted, "bad_chunk")
    assert await push(kit, place, header(some), some[:10_000], chunk=10) == (exhausted, "small_chunks")
    assert await push(kit, place, header(some), some[:MIB]) == (invalid, "incomplete")
    assert await push(kit, place, header(some, digest="../../x"), some) == (invalid, "bad_input")
    assert await push(kit, place, header(some, task="../x"), some) == (invalid, "bad_input")
    assert await push(kit, place, header(some, offset=2**70), some) == (invalid, "bad_input")
    assert await push(kit, place, header(some, offset=2 * MIB), b"") == ("UNAVAILABLE", "offset_mismatch")
    assert await push(kit, place, (), b"") == (invalid, "bad_input")
    assert kit.desk.updates == []
    (left,) = (kit.folder / "spool").iterdir()  # the one that was only cut short may go on
    assert left.stat().st_size == MIB


async def test_the_spools_quota_counts_what_is_announced(kit: Kit) -> None:
    place = await kit.node("a")
    kit.desk.wanted.update({f"job_1/0/{slot}": True for slot in range(3)})
    channel = Channel(kit.address, load_credentials(place), LinkOptions())
    for slot in range(2):
        call = channel.upload(metadata=header(b"", task=f"job_1/0/{slot}", size=40 * MIB))
        await call.write(b"x" * MIB)
        await eventually(lambda n=slot: len(list((kit.folder / "spool").iterdir())) == n + 1)
    third = header(b"", task="job_1/0/2", size=MIB)
    assert await push(kit, place, third, b"x" * MIB) == ("RESOURCE_EXHAUSTED", "spool_full")
    await channel.close()


async def test_a_full_disk_refuses_the_update_and_heals_when_there_is_room(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await kit.node("a")
    real, full = os.pwrite, True

    def pwrite(fd: int, data: bytes, at: int) -> int:
        if full and at >= 2 * MIB and len(data) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, at)

    monkeypatch.setattr(spool_module.os, "pwrite", pwrite)
    assert await push(kit, place, header(SEVERAL), SEVERAL) == ("RESOURCE_EXHAUSTED", "disk_full")
    assert list((kit.folder / "spool").iterdir()) == []
    async with Agent(place, kit.address) as agent:
        sending = asyncio.create_task(agent.link.upload(TASK, file_of(kit, SEVERAL), sha256(SEVERAL), len(SEVERAL)))
        await asyncio.sleep(0.3)
        full = False
        assert (await sending).accepted


async def test_a_hundred_copies_of_one_upload_count_once(kit: Kit) -> None:
    place, data = await kit.node("a"), SEVERAL[:100_000]
    gate = asyncio.Semaphore(20)

    async def one() -> tuple[str, str]:
        async with gate:
            return await push(kit, place, header(data), data)

    results = await asyncio.gather(*(one() for _ in range(100)))
    assert len(kit.desk.updates) == 1
    assert set(results) <= {("OK", ""), ("RESOURCE_EXHAUSTED", "too_many_calls")}


async def test_a_silent_upload_is_cut_for_a_newer_one_of_the_same_update(tmp_path: Path) -> None:
    kit = await open_kit(tmp_path, limits=LinkLimits(takeover_s=Seconds(0.1)))
    kit.desk.wanted[TASK] = True
    place = await kit.node("a")
    channel = Channel(kit.address, load_credentials(place), LinkOptions())
    silent = channel.upload(metadata=header(SEVERAL))
    await silent.write(SEVERAL[:MIB])
    await eventually(lambda: kit.hub.calls(node_id(place)) == 1)
    async with Agent(place, kit.address) as agent:
        assert (await agent.link.upload(TASK, file_of(kit, SEVERAL), sha256(SEVERAL), len(SEVERAL))).accepted
    assert await silent.code() is grpc.StatusCode.UNAVAILABLE
    await channel.close()
    await kit.stop()


async def test_an_upload_that_stalls_is_ended(tmp_path: Path) -> None:
    kit = await open_kit(tmp_path, limits=LinkLimits(stall_s=Seconds(0.2)))
    kit.desk.wanted[TASK] = True
    place = await kit.node("a")
    channel = Channel(kit.address, load_credentials(place), LinkOptions())
    call = channel.upload(metadata=header(SEVERAL))
    await call.write(SEVERAL[:MIB])
    assert await asyncio.wait_for(call.code(), 5) is grpc.StatusCode.UNAVAILABLE
    assert dict(await call.trailing_metadata())["hansa-code"] == "stalled"
    await channel.close()
    await kit.stop()


async def test_a_node_may_not_open_more_transfers_than_allowed(tmp_path: Path) -> None:
    kit = await open_kit(tmp_path, limits=LinkLimits(transfers=2))
    kit.desk.wanted.update({f"job_1/0/{slot}": True for slot in range(3)})
    place = await kit.node("a")
    channel = Channel(kit.address, load_credentials(place), LinkOptions())
    for slot in range(2):
        call = channel.upload(metadata=header(b"", task=f"job_1/0/{slot}", size=9))
        await call.write(b"x")
        await eventually(lambda n=slot: kit.hub.calls(node_id(place)) == n + 1)
    third = header(b"", task="job_1/0/2", size=9)
    assert await push(kit, place, third, b"x") == ("RESOURCE_EXHAUSTED", "too_many_calls")
    await channel.close()
    await kit.stop()


@pytest.mark.parametrize("failpoint", ["update_mid_chunk:5", "update_spooled", ""])
async def test_an_upload_survives_a_killed_coordinator(tmp_path: Path, failpoint: str) -> None:
    place = await joined_node(tmp_path)
    (tmp_path / "tasks.json").write_text(json.dumps([TASK]))
    data = random.Random(5).randbytes(30 * MIB)
    (tmp_path / "update").write_bytes(data)
    server, port = await start_server(tmp_path, failpoint=failpoint)
    async with Agent(place, f"127.0.0.1:{port}") as agent:
        sending = asyncio.create_task(agent.link.upload(TASK, tmp_path / "update", sha256(data), len(data)))
        if not failpoint:
            await agent.connected()
            await eventually(lambda: any(p.stat().st_size > 2 * MIB for p in (tmp_path / "spool").glob("*.update")))
            server.send_signal(signal.SIGKILL)
        assert await asyncio.wait_for(server.wait(), 20) == -signal.SIGKILL
        assert not sending.done()
        (spooled,) = (tmp_path / "spool").glob("*.update")
        assert data.startswith(spooled.read_bytes())
        server, _ = await start_server(tmp_path, port)
        assert (await asyncio.wait_for(sending, 20)).accepted
    assert spooled.read_bytes() == data
    server.kill()
    await server.wait()


async def test_a_download_survives_a_killed_coordinator(tmp_path: Path) -> None:
    place = await joined_node(tmp_path)
    data = random.Random(6).randbytes(48 * MIB)
    (tmp_path / "offer").mkdir()
    (tmp_path / "offer" / "content").write_bytes(data)
    server, port = await start_server(tmp_path)
    target = tmp_path / "got"
    async with Agent(place, f"127.0.0.1:{port}") as agent:
        ref = pb.ContentRef(digest=sha256(data), size=len(data))
        getting = asyncio.create_task(agent.link.download(ref, target))
        part = tmp_path / "got.part"
        await eventually(lambda: part.exists() and part.stat().st_size > 2 * MIB)
        server.send_signal(signal.SIGKILL)
        await server.wait()
        server, _ = await start_server(tmp_path, port)
        await asyncio.wait_for(getting, 20)
    assert target.read_bytes() == data
    server.kill()
    await server.wait()


@pytest.mark.parametrize("way", ["download", "upload"])
async def test_a_node_killed_in_mid_chunk_goes_on_where_it_was(kit: Kit, way: str) -> None:
    place, ref = await kit.node("a"), offer(kit, SEVERAL)
    path = file_of(kit, SEVERAL) if way == "upload" else kit.folder / "got"
    script = Path(__file__).with_name("link_kit.py")
    command = [script, "node", place.root, kit.address, way, path, ref.digest, ref.size]

    async def run(failpoint: str) -> int:
        env = {**os.environ, "PYTHONPATH": str(script.parents[2]), "HANSA_FAILPOINT": failpoint}
        process = await asyncio.create_subprocess_exec(sys.executable, *map(str, command), env=env)
        return await asyncio.wait_for(process.wait(), 60)

    assert await run(f"{way}_mid_chunk:5") == -signal.SIGKILL
    partial = kit.folder / "got.part" if way == "download" else kit.spool.path(node_id(place), TASK, ref.digest)
    await eventually(lambda: kit.hub.calls(node_id(place)) == 0)
    held = partial.read_bytes()
    assert len(held) > 0
    assert SEVERAL.startswith(held)
    assert await run("") == 0
    arrived = path if way == "download" else kit.desk.updates[0].path
    assert arrived.read_bytes() == SEVERAL


async def test_partial_updates_that_nobody_goes_on_with_are_swept(kit: Kit) -> None:
    place = await kit.node("a")
    assert (await push(kit, place, header(SEVERAL), SEVERAL[:MIB]))[1] == "incomplete"
    now = SystemClock().now()
    assert kit.spool.sweep(now - 3600) == 0
    assert kit.spool.sweep(now + 3600) == 1
    assert list((kit.folder / "spool").iterdir()) == []


async def test_this_nodes_full_disk_is_named(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    from client_node.adapters import partial_file

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    place, ref = await kit.node("a"), offer(kit, SEVERAL)
    monkeypatch.setattr(partial_file.os, "pwrite", full)
    async with Agent(place, kit.address) as agent:
        with pytest.raises(QuotaExceeded) as caught:
            await agent.link.download(ref, kit.folder / "got")
    assert caught.value.code == "node_disk_full"
