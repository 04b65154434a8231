"""Careless and hostile uploads, full disks, limits."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from client_node.adapters.grpc_channel import Channel, LinkOptions
from client_node.services.credentials import load_credentials
from common.clock import SystemClock
from common.errors import QuotaExceeded
from common.units import CHUNK, MIB, Seconds
from common.wire import hansa_node_pb2 as pb
from coordinator.rpc import spool as spool_module
from coordinator.rpc.limits import LinkLimits
from tests.integration.link_files import LIMITS, SEVERAL, file_of, header, offer, push
from tests.integration.link_kit import TASK, Agent, Kit, eventually, node_id, open_kit, sha256

pytestmark = pytest.mark.integration


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = await open_kit(tmp_path, limits=LIMITS)
    made.desk.wanted[TASK] = True
    yield made
    await made.stop()


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
    assert await asyncio.wait_for(call.code(), 60) is grpc.StatusCode.UNAVAILABLE
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
