"""The four guarantees of a blob store, on a directory, on moto and on a real MinIO."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from common.errors import BadInput, NotFound, QuotaExceeded
from common.ids import Digest, TenantId
from coordinator.adapters.blobs_dir import DirectoryBlobs
from coordinator.adapters.blobs_s3 import S3Blobs

NORTH, SOUTH = TenantId("north"), TenantId("south")
Blobs = DirectoryBlobs | S3Blobs
ABC = Digest("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")  # FIPS 180-2, appendix B.1
EMPTY = Digest("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


async def listed(blobs: Blobs, tenant: TenantId) -> set[Digest]:
    return {digest async for digest in blobs.list(tenant)}


def finished_file(blobs: Blobs, data: bytes, name: str = "upload") -> tuple[Path, Digest]:
    path = blobs.work_dir() / name
    path.write_bytes(data)
    return path, Digest(hashlib.sha256(data).hexdigest())


async def test_bytes_come_back_under_their_digest(blobs: Blobs, other_blobs: Blobs):
    assert await blobs.put_bytes(NORTH, b"abc") == ABC
    assert await blobs.put_bytes(NORTH, b"") == EMPTY
    for reader in (blobs, other_blobs):
        assert await reader.get_bytes(NORTH, ABC, limit=3) == b"abc"
        assert await reader.get_bytes(NORTH, EMPTY, limit=0) == b""
        assert (await reader.open(NORTH, ABC)).read_bytes() == b"abc"
        assert await reader.exists(NORTH, ABC)
    assert await listed(other_blobs, NORTH) == {ABC, EMPTY}


async def test_a_file_is_taken_over_and_gone_from_where_it_was(blobs: Blobs, other_blobs: Blobs):
    data = os.urandom(40 * 2**20 + 17)  # over two parts of a multipart upload
    path, digest = finished_file(blobs, data)
    await blobs.put_file(NORTH, path, digest)
    assert not path.exists()
    for reader in (blobs, other_blobs):
        copy = await reader.open(NORTH, digest)
        assert copy.read_bytes() == data
        assert not copy.stat().st_mode & 0o222
    assert await other_blobs.get_bytes(NORTH, digest, limit=len(data)) == data


async def test_putting_twice_is_one_blob_and_no_error(blobs: Blobs):
    await asyncio.gather(*(blobs.put_bytes(NORTH, b"abc") for _ in range(8)))
    path, digest = finished_file(blobs, b"abc")
    await blobs.put_file(NORTH, path, digest)
    assert not path.exists()
    assert await listed(blobs, NORTH) == {ABC}


async def test_no_tenant_can_tell_what_another_has(blobs: Blobs):
    await blobs.put_bytes(NORTH, b"abc")
    assert not await blobs.exists(SOUTH, ABC)
    assert await listed(blobs, SOUTH) == set()
    for ask in (blobs.open(SOUTH, ABC), blobs.get_bytes(SOUTH, ABC, limit=10)):
        with pytest.raises(NotFound):
            await ask
    await blobs.open(NORTH, ABC)
    await blobs.delete(SOUTH, ABC)
    assert await blobs.get_bytes(NORTH, ABC, limit=3) == b"abc"


async def test_a_deleted_blob_is_gone_and_may_be_deleted_again(blobs: Blobs):
    await blobs.put_bytes(NORTH, b"abc")
    await blobs.open(NORTH, ABC)
    await blobs.delete(NORTH, ABC)
    await blobs.delete(NORTH, ABC)
    assert not await blobs.exists(NORTH, ABC)
    assert await listed(blobs, NORTH) == set()
    with pytest.raises(NotFound):
        await blobs.open(NORTH, ABC)
    assert await blobs.put_bytes(NORTH, b"abc") == ABC
    assert (await blobs.open(NORTH, ABC)).read_bytes() == b"abc"


async def test_a_blob_longer_than_the_limit_is_not_read(blobs: Blobs):
    await blobs.put_bytes(NORTH, b"abc")
    with pytest.raises(QuotaExceeded, match="3 bytes"):
        await blobs.get_bytes(NORTH, ABC, limit=2)


async def test_many_askers_get_one_whole_copy(blobs: Blobs, other_blobs: Blobs):
    data = os.urandom(3 * 2**20)
    digest = await blobs.put_bytes(NORTH, data)
    copies = await asyncio.gather(*(other_blobs.open(NORTH, digest) for _ in range(8)))
    assert len(set(copies)) == 1
    assert copies[0].read_bytes() == data


async def test_every_name_is_listed(blobs: Blobs):
    wanted = {await blobs.put_bytes(NORTH, b"%d" % number) for number in range(20)}
    await blobs.put_bytes(SOUTH, b"another's")
    assert await listed(blobs, NORTH) == wanted


@pytest.mark.parametrize("tenant", ["", "..", "a/b", "North", ".work", "a\0"])
async def test_a_tenant_that_is_no_name_is_refused(blobs: Blobs, tenant: str):
    with pytest.raises(BadInput):
        await blobs.put_bytes(TenantId(tenant), b"abc")
    with pytest.raises(BadInput):
        await listed(blobs, TenantId(tenant))


@pytest.mark.parametrize("digest", ["", "../" * 20 + "etc/passwd", "A" * 64, "ab" * 31 + "/a"])
async def test_a_digest_that_is_none_is_refused(blobs: Blobs, tmp_path: Path, digest: str):
    (tmp_path / "file").write_bytes(b"abc")
    asks = (
        blobs.open(NORTH, Digest(digest)),
        blobs.exists(NORTH, Digest(digest)),
        blobs.delete(NORTH, Digest(digest)),
        blobs.get_bytes(NORTH, Digest(digest), limit=10),
        blobs.put_file(NORTH, tmp_path / "file", Digest(digest)),
    )
    for ask in asks:
        with pytest.raises(BadInput):
            await ask


async def test_nothing_is_left_in_the_work_folder(blobs: Blobs):
    await blobs.put_bytes(NORTH, b"abc")
    await blobs.open(NORTH, ABC)
    assert list(blobs.work_dir().iterdir()) == []
