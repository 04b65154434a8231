"""The directory under a full disk, a killed writer, rotten bytes and hostile files."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import BadInput, BadSignature, QuotaExceeded, Unreachable
from common.ids import Digest, TenantId
from coordinator.adapters.blobs_dir import DirectoryBlobs

NORTH = TenantId("north")
ROOT = Path(__file__).parents[2]

WRITER = """
import asyncio, os, sys
from pathlib import Path
from coordinator.adapters.blobs_dir import DirectoryBlobs

async def main():
    blobs, number = DirectoryBlobs(Path(sys.argv[1])), 0
    while True:
        number += 1
        digest = await blobs.put_bytes("north", number.to_bytes(4, "big") * 2**18)
        os.write(1, digest.encode() + b"\\n")

asyncio.run(main())
"""


def blob_path(root: Path, digest: str) -> Path:
    return root / "north" / "blobs" / "sha256" / digest


async def test_a_killed_writer_leaves_whole_blobs_only(tmp_path: Path):
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", WRITER, tmp_path],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip
    assert child.stdout is not None
    acknowledged = [child.stdout.readline().decode().strip() for _ in range(5)]
    child.kill()
    acknowledged += child.stdout.read().decode().split()
    child.wait()
    child.stdout.close()
    blobs = DirectoryBlobs(tmp_path)
    names = {digest async for digest in blobs.list(NORTH)}
    assert set(acknowledged) <= names
    for name in names:
        data = await blobs.get_bytes(NORTH, name, limit=2**20)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (2**20, name)
    assert list(blobs.work_dir().iterdir()) == []  # what was half written is swept at the next start


async def test_whatever_a_killed_coordinator_was_making_is_swept_at_the_next_start(tmp_path: Path):
    work = DirectoryBlobs(tmp_path).work_dir()
    for name in ("fold_1", "reply_2", "import-3", ".put-4"):
        (work / name).write_bytes(b"half")
    assert list(DirectoryBlobs(tmp_path).work_dir().iterdir()) == []


async def test_a_full_disk_shows_no_torn_blob(tmp_path: Path):
    blobs = DirectoryBlobs(tmp_path)
    data = b"x" * 2**20
    digest = Digest(hashlib.sha256(data).hexdigest())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, hard))  # the second half of the write fails
    try:
        with pytest.raises(QuotaExceeded) as caught:
            await blobs.put_bytes(NORTH, data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert digest in caught.value.detail
    assert not await blobs.exists(NORTH, digest)
    assert list(blobs.work_dir().iterdir()) == []
    assert await blobs.put_bytes(NORTH, data) == digest  # with room again, it goes


async def test_rotten_bytes_are_noticed_and_mended_by_putting_them_again(tmp_path: Path):
    digest = await DirectoryBlobs(tmp_path).put_bytes(NORTH, b"abc")
    path = blob_path(tmp_path, digest)
    path.chmod(0o600)
    path.write_bytes(b"abd")
    blobs = DirectoryBlobs(tmp_path)
    with pytest.raises(BadSignature):
        await blobs.open(NORTH, digest)
    with pytest.raises(BadSignature):
        await blobs.get_bytes(NORTH, digest, limit=10)
    await blobs.put_bytes(NORTH, b"abc")
    assert (await blobs.open(NORTH, digest)).read_bytes() == b"abc"


async def test_a_link_never_becomes_a_blob(tmp_path: Path):
    blobs = DirectoryBlobs(tmp_path / "blobs")
    secret = tmp_path / "secret"
    secret.write_bytes(b"abc")
    digest = Digest(hashlib.sha256(b"abc").hexdigest())
    soft, hard = blobs.work_dir() / "soft", blobs.work_dir() / "hard"
    soft.symlink_to(secret)
    os.link(secret, hard)
    with pytest.raises(Unreachable):
        await blobs.put_file(NORTH, soft, digest)
    with pytest.raises(BadInput):
        await blobs.put_file(NORTH, hard, digest)
    assert not await blobs.exists(NORTH, digest)
    assert secret.exists()


async def test_only_the_owner_may_enter(tmp_path: Path):
    blobs = DirectoryBlobs(tmp_path / "blobs")
    digest = await blobs.put_bytes(NORTH, b"abc")
    assert (tmp_path / "blobs").stat().st_mode & 0o077 == 0
    assert blob_path(tmp_path / "blobs", digest).stat().st_mode & 0o777 == 0o400


def test_a_root_that_is_a_file_is_named(tmp_path: Path):
    (tmp_path / "blobs").write_text("no folder")
    with pytest.raises(Unreachable, match="blobs"):
        DirectoryBlobs(tmp_path / "blobs")
