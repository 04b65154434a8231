"""Content-addressed bytes under the owning tenant's prefix."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from common.ids import Digest, TenantId


class BlobStore(Protocol):
    """The guarantees an adapter must keep.

    1. What ``put_*`` returned for is durable: it survives a crash of this process and of the machine.
    2. A digest names exactly the bytes whose SHA-256 it is; a torn or wrong write is never visible under it.
    3. Putting the same bytes twice is one blob and no error.  No tenant can tell what another has.
    4. ``open`` gives a local read-only file of the whole blob (a cache where the store is remote), verified once.
    """

    async def put_bytes(self, tenant: TenantId, data: bytes) -> Digest:
        """Store ``data`` and return its digest."""
        ...

    async def put_file(self, tenant: TenantId, path: Path, digest: Digest) -> None:
        """Take over the finished local file ``path`` (same file system as the store's work folder) as ``digest``.

        The caller has computed ``digest`` while writing; the file is synced here and gone from ``path`` afterwards.
        """
        ...

    async def get_bytes(self, tenant: TenantId, digest: Digest, *, limit: int) -> bytes:
        """Return the blob.

        Raises:
            NotFound: no such blob.
            QuotaExceeded: it is longer than ``limit`` bytes.
            BadSignature: the stored bytes do not have this digest.
        """
        ...

    async def open(self, tenant: TenantId, digest: Digest) -> Path:
        """Return the path of a local read-only copy; valid until the blob is deleted.

        Raises:
            NotFound: no such blob.
        """
        ...

    async def exists(self, tenant: TenantId, digest: Digest) -> bool:
        """Say whether the blob is there."""
        ...

    async def delete(self, tenant: TenantId, digest: Digest) -> None:
        """Remove the blob; no error when it is gone already."""
        ...

    def list(self, tenant: TenantId) -> AsyncIterator[Digest]:
        """Yield every digest of the tenant."""
        ...

    def work_dir(self) -> Path:
        """Return the folder in which files for ``put_file`` are to be written."""
        ...
