"""Blobs that are booked to their tenant before they are stored, so that uploads at once cannot pass a limit together.

A round's own objects are the exception: the journal books them in the transaction that records the round, and a job
over the limit stops there until there is room (``services/runner``).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import PlatformError, TenantQuotaExceeded
from common.ids import Digest, TenantId
from coordinator.domain.quotas import Allowance
from coordinator.ports.blobs import BlobStore
from coordinator.ports.store import Store, Tx

Check = Callable[[Tx, TenantId], None]
_INLINE = 256 * 1024  # bytes that are hashed without a thread
Key = tuple[TenantId, Digest]


@dataclass
class _Scope:
    """What one ``all_or_none`` has stored, and what it counts on."""

    fresh: list[Key] = field(default_factory=list)
    touched: set[Key] = field(default_factory=set)


_SCOPE: ContextVar[_Scope | None] = ContextVar("scope", default=None)


class BookedBlobs:
    """A ``BlobStore`` over another one.

    Args:
        blobs: Where the bytes are.
        store: Where they are booked.
        check: Raises TenantQuotaExceeded where a tenant has booked too much.
    """

    def __init__(self, blobs: BlobStore, store: Store, check: Check) -> None:
        self._blobs, self._store, self._check = blobs, store, check
        self._news: defaultdict[TenantId, asyncio.Event] = defaultdict(asyncio.Event)
        self._users: Counter[Key] = Counter()  # scopes that count on a blob

    async def put_bytes(self, tenant: TenantId, data: bytes) -> Digest:
        """Book and store ``data``."""
        hashed = hashlib.sha256(data) if len(data) <= _INLINE else await asyncio.to_thread(hashlib.sha256, data)
        digest = Digest(hashed.hexdigest())
        async with self._booked(tenant, digest, len(data)):
            return await self._blobs.put_bytes(tenant, data)

    async def put_file(self, tenant: TenantId, path: Path, digest: Digest) -> None:
        """Book and take over the finished local file ``path`` as ``digest``."""
        size = (await asyncio.to_thread(path.lstat)).st_size
        try:
            async with self._booked(tenant, digest, size):
                await self._blobs.put_file(tenant, path, digest)
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def get_bytes(self, tenant: TenantId, digest: Digest, *, limit: int) -> bytes:
        """Return the blob, at most ``limit`` bytes of it being allowed."""
        return await self._blobs.get_bytes(tenant, digest, limit=limit)

    async def open(self, tenant: TenantId, digest: Digest) -> Path:
        """Return the path of a local read-only copy."""
        return await self._blobs.open(tenant, digest)

    async def exists(self, tenant: TenantId, digest: Digest) -> bool:
        """Say whether the blob is there."""
        self._touch((tenant, digest))
        return await self._blobs.exists(tenant, digest)

    async def delete(self, tenant: TenantId, digest: Digest) -> None:
        """Remove the blob and book it out."""
        await self.delete_all(tenant, [digest])

    async def delete_all(self, tenant: TenantId, digests: Iterable[Digest]) -> None:
        """Remove blobs and book them out together."""
        gone = list(digests)
        for digest in gone:
            await self._blobs.delete(tenant, digest)

        def drop(tx: Tx) -> None:
            for digest in gone:
                tx.quotas.drop(tenant, digest)

        if gone:
            await self._store.write(drop)
            self._tell(tenant)

    def list(self, tenant: TenantId) -> AsyncIterator[Digest]:
        """Yield every digest of the tenant."""
        return self._blobs.list(tenant)

    def work_dir(self) -> Path:
        """Return the folder in which files for ``put_file`` are to be written."""
        return self._blobs.work_dir()

    def news(self, tenant: TenantId) -> asyncio.Event:
        """Return what is set when the tenant may have room again; take it before trying."""
        return self._news[tenant]

    def allow(self, allowance: Allowance) -> None:
        """A tenant may store so much from now on."""
        self._tell(allowance.tenant)

    @asynccontextmanager
    async def _booked(self, tenant: TenantId, digest: Digest, size: int) -> AsyncIterator[None]:
        def book(tx: Tx) -> bool:
            if tx.quotas.keep(tenant, digest, size) is None:
                return False
            self._check(tx, tenant)
            return True

        self._touch((tenant, digest))
        fresh = await self._store.write(book)
        try:
            yield
        except PlatformError:  # not where it was cancelled: the bytes may be stored all the same
            if fresh:
                await self._store.write(lambda tx: tx.quotas.drop(tenant, digest))
            raise
        if not fresh:  # whoever booked it may have failed to store it meanwhile
            await self._store.write(lambda tx: tx.quotas.keep(tenant, digest, size))
        elif (scope := _SCOPE.get()) is not None:
            scope.fresh.append((tenant, digest))

    def _touch(self, key: Key) -> None:
        scope = _SCOPE.get()
        if scope is not None and key not in scope.touched:
            scope.touched.add(key)
            self._users[key] += 1

    async def leave(self, scope: _Scope, *, stopped: bool) -> None:
        """End a scope of ``all_or_none``."""
        for key in scope.touched:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
        for tenant, digest in scope.fresh if stopped else ():
            if (tenant, digest) not in self._users:
                await self.delete(tenant, digest)

    def _tell(self, tenant: TenantId) -> None:
        self._news.pop(tenant, asyncio.Event()).set()


@asynccontextmanager
async def all_or_none(blobs: BlobStore) -> AsyncIterator[None]:
    """Remove again what is newly booked within, if the tenant's limit stops it: half a version is of no use to anybody.

    What another one at the same time has found there, or has stored too, stays.  So does everything after any other
    error: what was cancelled or lost may have been written down all the same.
    """
    if not isinstance(blobs, BookedBlobs):
        yield
        return
    scope, stopped = _Scope(), False
    before = _SCOPE.set(scope)
    try:
        yield
    except TenantQuotaExceeded:
        stopped = True
        raise
    finally:
        _SCOPE.reset(before)
        await blobs.leave(scope, stopped=stopped)
