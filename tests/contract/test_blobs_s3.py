"""The bucket's own troubles: no server, refused keys, changed bytes, a cache that is full or torn."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from minio import Minio

from common.clock import ManualClock
from common.errors import BadInput, BadSignature, NotFound, Unreachable
from common.ids import Digest, TenantId
from coordinator.adapters.blobs import make_blobs
from coordinator.adapters.blobs_cache import GRACE_S, BlobCache
from coordinator.adapters.blobs_dir import DirectoryBlobs
from coordinator.adapters.blobs_s3 import S3Blobs
from tests.servers.fixtures import S3Server, private_minio
from tests.servers.process import free_port

NORTH = TenantId("north")


def raw(server: S3Server) -> Minio:
    return Minio(f"127.0.0.1:{server.port}", server.access_key, server.secret_key, secure=False)


def entry(cache: BlobCache, data: bytes) -> tuple[str, Digest, Path]:
    digest = Digest(hashlib.sha256(data).hexdigest())
    name = f"north/blobs/sha256/{digest}"
    (cache.work / "new").write_bytes(data)
    return name, digest, cache.adopt(name, cache.work / "new")


async def test_keys_lie_under_the_tenants_prefix(moto_server: S3Server, tmp_path: Path):
    blobs = make_blobs(moto_server.address("prefixes"), cache_dir=tmp_path)
    digest = await blobs.put_bytes(NORTH, b"abc")
    names = [found.object_name for found in raw(moto_server).list_objects("prefixes", recursive=True)]
    assert names == [f"north/blobs/sha256/{digest}"]


@pytest.mark.parametrize("server", ["moto_server", "minio_server"])
async def test_bytes_changed_in_the_bucket_are_never_handed_out(
    request: pytest.FixtureRequest, server: str, tmp_path: Path
):
    s3: S3Server = request.getfixturevalue(server)
    blobs = make_blobs(s3.address("changed"), cache_dir=tmp_path)
    digest = await blobs.put_bytes(NORTH, b"abc")
    (tmp_path / "other").write_bytes(b"abd")
    raw(s3).fput_object("changed", f"north/blobs/sha256/{digest}", str(tmp_path / "other"))
    with pytest.raises(BadSignature):
        await blobs.open(NORTH, digest)
    with pytest.raises(BadSignature):
        await blobs.get_bytes(NORTH, digest, limit=10)
    assert not any((tmp_path / "north").rglob("*") if (tmp_path / "north").exists() else [])


async def test_a_torn_cache_entry_is_fetched_anew(moto_server: S3Server, tmp_path: Path):
    address = moto_server.address()
    first = make_blobs(address, cache_dir=tmp_path)
    digest = await first.put_bytes(NORTH, b"abc")
    cached = await first.open(NORTH, digest)
    cached.chmod(0o600)
    cached.write_bytes(b"")  # as after a power cut: entries are not synced
    second = make_blobs(address, cache_dir=tmp_path)
    assert (await second.open(NORTH, digest)).read_bytes() == b"abc"


async def test_reading_twice_asks_the_server_once(moto_server: S3Server, tmp_path: Path):
    address = moto_server.address("once")
    digest = await make_blobs(address, cache_dir=tmp_path / "a").put_bytes(NORTH, b"abc")
    blobs = make_blobs(address, cache_dir=tmp_path / "b")
    await blobs.open(NORTH, digest)
    raw(moto_server).remove_object("once", f"north/blobs/sha256/{digest}")
    assert (await blobs.open(NORTH, digest)).read_bytes() == b"abc"
    with pytest.raises(NotFound):
        await blobs.get_bytes(NORTH, digest, limit=3)


def test_the_cache_drops_what_was_used_longest_ago_but_nothing_just_handed_out(tmp_path: Path):
    clock = ManualClock()
    cache = BlobCache(tmp_path, 100, clock)
    old, used = entry(cache, b"1" * 60), entry(cache, b"2" * 60)
    assert old[2].exists()  # over the bound, but both are in use
    clock.advance(GRACE_S + 1)
    assert cache.find(used[0], used[1]) == used[2]
    new = entry(cache, b"3" * 30)
    assert [path.exists() for _, _, path in (old, used, new)] == [False, True, True]
    assert cache.find(old[0], old[1]) is None


async def test_refused_keys_and_a_missing_server_are_told_apart(minio_server: S3Server, tmp_path: Path):
    wrong = f"s3+http://{minio_server.access_key}:wrong-secret@127.0.0.1:{minio_server.port}/bucket"
    with pytest.raises(Unreachable) as refused:
        make_blobs(wrong, cache_dir=tmp_path)
    assert "access key" in refused.value.next_step
    assert "wrong-secret" not in str(refused.value)
    with pytest.raises(Unreachable, match="refused"):
        make_blobs(f"s3+http://key:secret@127.0.0.1:{free_port()}/bucket", cache_dir=tmp_path)


@pytest.mark.parametrize(
    "address",
    [
        "s3+http://127.0.0.1:9/bucket",
        "s3+http://k:s@127.0.0.1:9/",
        "s3+http://k:s@127.0.0.1:9/B",
        "ftp://k:s@h/b",
        "s3://",
    ],
)
def test_an_address_that_names_no_bucket_is_refused(address: str, tmp_path: Path):
    with pytest.raises(BadInput):
        make_blobs(address, cache_dir=tmp_path)


def test_a_bucket_without_a_cache_folder_is_refused():
    with pytest.raises(BadInput, match="cache"):
        make_blobs("s3+http://k:s@127.0.0.1:9/bucket")


def test_a_path_is_a_directory(tmp_path: Path):
    assert isinstance(make_blobs(tmp_path / "a"), DirectoryBlobs)
    assert isinstance(make_blobs(f"file://{tmp_path}/b"), DirectoryBlobs)


def test_the_address_carries_what_the_bucket_needs(moto_server: S3Server, tmp_path: Path):
    store = make_blobs(moto_server.address() + "?region=eu-west-1", cache_dir=tmp_path, cache_bytes=5)
    assert isinstance(store, S3Blobs)
    assert (store._settings.region, store._settings.secure, store._settings.cache_bytes) == ("eu-west-1", False, 5)


class Sick(BaseHTTPRequestHandler):
    """A server that has the bucket but fails at every object."""

    def answer(self) -> None:
        self.server.asked.append(self.command)  # type: ignore[attr-defined]
        self.rfile.read(int(self.headers.get("content-length") or 0))
        is_bucket = self.path.split("?")[0].count("/") == 1
        body = b"" if self.command == "HEAD" else LOCATION
        self.send_response(200 if is_bucket else 503)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "60")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


LOCATION = b'<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LocationConstraint>'


async def test_a_server_that_keeps_failing_is_given_up_on(tmp_path: Path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Sick) as server:
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            blobs = make_blobs(f"s3+http://k:s@127.0.0.1:{server.server_port}/bucket", cache_dir=tmp_path)
            with pytest.raises(Unreachable, match=f"bucket bucket at 127.0.0.1:{server.server_port}") as caught:
                await blobs.put_bytes(NORTH, b"abc")
            assert caught.value.retryable
            assert 2 <= server.asked.count("PUT") <= 6  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()


async def test_a_server_killed_in_an_upload_shows_nothing_of_it(tmp_path: Path):
    """A real MinIO of its own, killed while the parts go up, then started again on the same data."""
    data = os.urandom(64 * 2**20)
    with private_minio(tmp_path / "data", tmp_path / "log") as (server, child):
        blobs = make_blobs(server.address("killed"), cache_dir=tmp_path / "cache")
        kept = await blobs.put_bytes(NORTH, b"abc")
        (blobs.work_dir() / "upload").write_bytes(data)
        digest = Digest(hashlib.sha256(data).hexdigest())
        upload = asyncio.create_task(blobs.put_file(NORTH, blobs.work_dir() / "upload", digest))
        while not any((tmp_path / "data" / ".minio.sys" / "multipart").rglob("xl.meta")):
            await asyncio.sleep(0.001)
        child.kill()
        with pytest.raises(Unreachable):
            await upload
    with private_minio(tmp_path / "data", tmp_path / "log", server):  # the same coordinator goes on
        assert [found async for found in blobs.list(NORTH)] == [kept]
        assert not await blobs.exists(NORTH, digest)
        await blobs.put_file(NORTH, blobs.work_dir() / "upload", digest)  # it was not taken away
        assert (await blobs.open(NORTH, digest)).read_bytes() == data
