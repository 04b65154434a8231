"""Transfers across SIGKILL of either side, in mid-chunk."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.units import MIB
from common.wire import hansa_node_pb2 as pb
from tests.integration.link_files import LIMITS, SEVERAL, file_of, joined_node, offer, start_server
from tests.integration.link_kit import TASK, Agent, Kit, eventually, node_id, open_kit, sha256

pytestmark = pytest.mark.integration


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = await open_kit(tmp_path, limits=LIMITS)
    made.desk.wanted[TASK] = True
    yield made
    await made.stop()


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
        assert await asyncio.wait_for(server.wait(), 60) == -signal.SIGKILL
        assert not sending.done()
        (spooled,) = (tmp_path / "spool").glob("*.update")
        assert data.startswith(spooled.read_bytes())
        server, _ = await start_server(tmp_path, port)
        assert (await asyncio.wait_for(sending, 60)).accepted
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
        await asyncio.wait_for(getting, 60)
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
