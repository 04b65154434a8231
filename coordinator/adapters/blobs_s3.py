"""Blobs in an S3 bucket, through the ``minio`` SDK, with a bounded local cache of what was read.

An object is visible only after its last byte (S3's own guarantee, multipart included).  What comes back is hashed while
it is written to the cache; a cached file that this process has not hashed is hashed before it is handed out.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from common.clock import Clock, SystemClock
from common.errors import BadInput, BadSignature, NotFound, QuotaExceeded, Unreachable
from common.ids import Digest, TenantId
from common.units import GIB, MIB
from coordinator.adapters import blobs_common as local
from coordinator.adapters.blobs_cache import BlobCache

_PART = 16 * MIB
_ATTEMPTS = 3
_REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "ExpiredToken"}
_FULL = {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "QuotaExceeded"}


@dataclass(frozen=True)
class S3Settings:
    """Where the bucket is and who we are there."""

    endpoint: str  # host:port
    bucket: str
    access_key: str
    secret_key: str
    secure: bool = True
    region: str = ""  # "" = ask the server
    ca_file: Path | None = None  # PEM of a private CA; None = the system's
    cache_bytes: int = 20 * GIB
    connect_s: float = 5.0
    read_s: float = 60.0


class S3Blobs:
    """A ``coordinator.ports.blobs.BlobStore`` over one bucket.

    Args:
        settings: The bucket; it is made if it is not there.
        cache_dir: Local folder for what was read and what is to be uploaded.
        clock: Dates the cache's entries.

    Raises:
        Unreachable: the server does not answer or refuses us. BadInput: the settings name no possible bucket.
    """

    def __init__(self, settings: S3Settings, cache_dir: Path, clock: Clock | None = None) -> None:
        self._settings = settings
        self._name = f"bucket {settings.bucket} at {settings.endpoint}"
        self._cache = BlobCache(cache_dir, settings.cache_bytes, clock or SystemClock())
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        try:
            self._client = _client(settings)
            with self._errors("cannot be used"):
                if not self._client.bucket_exists(settings.bucket):
                    self._client.make_bucket(settings.bucket)
        except ValueError as error:
            raise BadInput(f"{self._name}: {error}") from error

    async def put_bytes(self, tenant: TenantId, data: bytes) -> Digest:
        """Store ``data`` and return its digest."""
        digest = Digest(hashlib.sha256(data).hexdigest())
        await asyncio.to_thread(self._upload, local.key(tenant, digest), io.BytesIO(data), len(data))
        return digest

    async def put_file(self, tenant: TenantId, path: Path, digest: Digest) -> None:
        """Upload the finished local file ``path``, then keep it in the cache."""
        await asyncio.to_thread(self._put_file, local.key(tenant, digest), path)

    async def get_bytes(self, tenant: TenantId, digest: Digest, *, limit: int) -> bytes:
        """Return the blob, at most ``limit`` bytes of it being allowed."""
        data = await asyncio.to_thread(self._get_bytes, tenant, digest, limit)
        if hashlib.sha256(data).hexdigest() != digest:
            raise BadSignature(f"the stored bytes of blob {digest} have changed")
        return data

    async def open(self, tenant: TenantId, digest: Digest) -> Path:
        """Return the cached copy's path, downloading it first where need be.

        It stays for at least ``blobs_cache.GRACE_S`` after this call; an open file stays readable for ever.
        """
        name = local.key(tenant, digest)
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with lock:  # two askers are one download
            return await asyncio.to_thread(self._open, tenant, digest, name)

    async def exists(self, tenant: TenantId, digest: Digest) -> bool:
        """Say whether the blob is there."""
        return await asyncio.to_thread(self._size, local.key(tenant, digest)) is not None

    async def delete(self, tenant: TenantId, digest: Digest) -> None:
        """Remove the blob; no error when it is gone already."""
        await asyncio.to_thread(self._delete, local.key(tenant, digest))

    async def list(self, tenant: TenantId) -> AsyncIterator[Digest]:
        """Yield every digest of the tenant."""
        prefix = local.folder_key(tenant) + "/"
        found = self._client.list_objects(self._settings.bucket, prefix=prefix, recursive=True)
        while page := await asyncio.to_thread(self._page, found):
            for item in page:
                yield Digest(item.object_name.removeprefix(prefix))

    def work_dir(self) -> Path:
        """Return a folder on the cache's file system."""
        return self._cache.work

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            reason = f"{self._name} {what}: {error.code}: {error.message}"
            if error.code in _FULL:
                raise QuotaExceeded(reason, next_step="free space in the object store") from error
            step = "check the access key and this machine's clock" if error.code in _REFUSED else ""
            raise Unreachable(reason, next_step=step) from error
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise Unreachable(f"{self._name} {what}: {_short(error)}") from error

    def _upload(self, name: str, data: Any, size: int) -> None:  # noqa: ANN401 - any binary file
        with self._errors("cannot be written"):
            self._client.put_object(self._settings.bucket, name, data, size, part_size=_PART, num_parallel_uploads=2)

    def _put_file(self, name: str, path: Path) -> None:
        with local.disk_errors(f"{path} cannot be uploaded"):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                size = os.fstat(descriptor).st_size
                if self._size(name) != size:
                    self._upload(name, file, size)
            self._cache.adopt(name, path)

    def _size(self, name: str) -> int | None:
        try:
            with self._errors("cannot be asked"):
                return self._client.stat_object(self._settings.bucket, name).size
        except Unreachable as error:
            if _is_missing(error):
                return None
            raise

    @contextmanager
    def _response(self, tenant: TenantId, digest: Digest) -> Iterator[Any]:
        response = None
        try:
            with self._errors("cannot be read"):
                response = self._client.get_object(self._settings.bucket, local.key(tenant, digest))
                yield response
        except Unreachable as error:
            if _is_missing(error):
                raise local.missing(tenant, digest) from error
            raise
        finally:
            if response is not None:
                response.close()

    def _get_bytes(self, tenant: TenantId, digest: Digest, limit: int) -> bytes:
        with self._response(tenant, digest) as response:
            size = int(response.headers.get("content-length", 0))
            if size > limit:
                raise QuotaExceeded(f"blob {digest} has {size} bytes, at most {limit} were expected")
            return bytes(response.read(limit + 1))

    def _open(self, tenant: TenantId, digest: Digest, name: str) -> Path:
        cached = self._cache.find(name, digest)
        if cached is not None:
            return cached
        for attempt in range(_ATTEMPTS):
            try:
                return self._download(tenant, digest, name)
            except NotFound:
                raise
            except Unreachable:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _download(self, tenant: TenantId, digest: Digest, name: str) -> Path:
        with (
            local.disk_errors(f"blob {digest} cannot be cached"),
            local.temporary(self._cache.work) as (descriptor, path),
        ):
            hashed = hashlib.sha256()
            with self._response(tenant, digest) as response:
                for block in response.stream(MIB):
                    hashed.update(block)
                    local.write_all(descriptor, block)
            if hashed.hexdigest() != digest:
                raise BadSignature(f"the stored bytes of blob {digest} have changed")
            return self._cache.adopt(name, path)

    def _delete(self, name: str) -> None:
        with self._errors("cannot be changed"):
            self._client.remove_object(self._settings.bucket, name)
        self._cache.forget(name)

    def _page(self, found: Iterator[Any]) -> Sequence[Any]:
        with self._errors("cannot be listed"):
            return list(itertools.islice(found, 1000))


def _client(settings: S3Settings) -> Minio:
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=settings.connect_s, read=settings.read_s),
        # Our own pauses, 3 s in all: a starting MinIO asks for a minute (Retry-After), an unseen wait.
        retries=urllib3.Retry(
            total=4,
            backoff_factor=0.2,
            status_forcelist=[500, 502, 503, 504],
            respect_retry_after_header=False,
        ),
        maxsize=8,
        ca_certs=None if settings.ca_file is None else str(settings.ca_file),
    )
    return Minio(
        settings.endpoint,
        access_key=settings.access_key,
        secret_key=settings.secret_key,
        secure=settings.secure,
        region=settings.region or None,
        http_client=pool,
    )


def _is_missing(error: Unreachable) -> bool:
    return isinstance(error.__cause__, S3Error) and error.__cause__.code in {"NoSuchKey", "NoSuchObject"}


def _short(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error).splitlines()[0][:200]
