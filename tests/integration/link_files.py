"""Files, headers and killable servers for tests of the link."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path

import grpc

from client_node.services.credentials import load_credentials
from common.units import CHUNK, MIB, Bytes, Seconds
from common.wire import hansa_node_pb2 as pb
from common.wire import methods
from coordinator.rpc.limits import LinkLimits
from tests.integration.link_kit import TASK, Kit, NodeDir, open_kit, sha256

ROOT = Path(__file__).parents[2]
LIMITS = LinkLimits(update_bytes=Bytes(40 * MIB), spool_bytes=Bytes(80 * MIB), stall_s=Seconds(20))
Header = tuple[tuple[str, str], ...]
SEVERAL = random.Random(7).randbytes(9 * MIB + 12_345)  # not a whole number of chunks


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
                call((data[at : at + chunk] for at in range(0, len(data), chunk)), metadata=head, timeout=60)
            except grpc.RpcError as error:
                return error.code().name, dict(error.trailing_metadata()).get("hansa-code", "")
        return "OK", ""

    return await asyncio.to_thread(send)


async def start_server(folder: Path, port: int = 0, failpoint: str = "") -> tuple[asyncio.subprocess.Process, int]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HANSA_FAILPOINT": failpoint}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "tests/integration/link_kit.py"),
        str(folder),
        str(port),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=env,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while not (line := await process.stdout.readline()).startswith(b"{"):
            assert line, "the server ended"
    return process, json.loads(line)["port"]


async def joined_node(folder: Path) -> NodeDir:
    kit = await open_kit(folder)
    place = await kit.node("a")
    await kit.stop()
    (folder / "tasks.json").write_text("[]")
    return place
