"""Blobs in a local directory: ``<root>/<tenant>/blobs/sha256/<hex>``.

A blob is written elsewhere, synced, then renamed, and the folder synced: what is under a digest's name is whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from common.errors import BadInput, BadSignature, QuotaExceeded
from common.ids import Digest, TenantId
from coordinator.adapters import blobs_common as local


class DirectoryBlobs:
    """A ``coordinator.ports.blobs.BlobStore`` below ``root``.

    Args:
        root: Created if need be; everything in it belongs to this store.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._work = self._root / ".work"  # no slug starts with a dot, so no tenant is called that
        with local.disk_errors(f"the blob folder {self._root} cannot be made"):
            local.make_folder(self._root, self._root)
            local.make_folder(self._work, self._root)
            local.sweep(self._work)
        # Names whose bytes this process has hashed, with the inode they had: hashed once, not at each open.
        self._verified: dict[str, int] = {}

    async def put_bytes(self, tenant: TenantId, data: bytes) -> Digest:
        """Store ``data`` and return its digest."""
        return await asyncio.to_thread(self._put_bytes, tenant, data)

    async def put_file(self, tenant: TenantId, path: Path, digest: Digest) -> None:
        """Take over the finished local file ``path`` as ``digest``."""
        await asyncio.to_thread(self._put_file, tenant, path, digest)

    async def get_bytes(self, tenant: TenantId, digest: Digest, *, limit: int) -> bytes:
        """Return the blob, at most ``limit`` bytes of it being allowed."""
        return await asyncio.to_thread(self._get_bytes, tenant, digest, limit)

    async def open(self, tenant: TenantId, digest: Digest) -> Path:
        """Return the blob's own path; its bytes are hashed the first time this process opens it."""
        return await asyncio.to_thread(self._open, tenant, digest)

    async def exists(self, tenant: TenantId, digest: Digest) -> bool:
        """Say whether the blob is there."""
        return await asyncio.to_thread((self._root / local.key(tenant, digest)).is_file)

    async def delete(self, tenant: TenantId, digest: Digest) -> None:
        """Remove the blob; no error when it is gone already."""
        await asyncio.to_thread(self._delete, local.key(tenant, digest))

    async def list(self, tenant: TenantId) -> AsyncIterator[Digest]:
        """Yield every digest of the tenant."""
        for name in await asyncio.to_thread(self._names, self._root / local.folder_key(tenant)):
            yield Digest(name)

    def work_dir(self) -> Path:
        """Return a folder on the blobs' file system."""
        return self._work

    def _target(self, tenant: TenantId, digest: Digest) -> tuple[str, Path]:
        name = local.key(tenant, digest)
        target = self._root / name
        local.make_folder(target.parent, self._root)
        return name, target

    def _put_bytes(self, tenant: TenantId, data: bytes) -> Digest:
        digest = Digest(hashlib.sha256(data).hexdigest())
        with local.disk_errors(f"blob {digest} cannot be written"), local.temporary(self._work) as (descriptor, path):
            name, target = self._target(tenant, digest)
            local.write_all(descriptor, data)
            # Written even where the name exists: rotten bytes under it are mended, and it is durable when we return.
            local.settle(descriptor, path, target)
            self._verified[name] = os.fstat(descriptor).st_ino
        return digest

    def _put_file(self, tenant: TenantId, path: Path, digest: Digest) -> None:
        with local.disk_errors(f"blob {digest} cannot be taken over from {path}"):
            name, target = self._target(tenant, digest)
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                    raise BadInput(f"{path} is not a file of its own, so it cannot become a blob")
                local.settle(descriptor, path, target)
            finally:
                os.close(descriptor)
            self._verified[name] = found.st_ino

    def _get_bytes(self, tenant: TenantId, digest: Digest, limit: int) -> bytes:
        path = self._root / local.key(tenant, digest)
        with local.disk_errors(f"blob {digest} cannot be read"):
            try:
                file = path.open("rb")
            except FileNotFoundError:
                raise local.missing(tenant, digest) from None
            with file:
                data = file.read(limit + 1)
                size = os.fstat(file.fileno()).st_size
        if len(data) > limit:
            raise QuotaExceeded(f"blob {digest} has {size} bytes, at most {limit} were expected")
        if hashlib.sha256(data).hexdigest() != digest:
            raise BadSignature(f"the stored bytes of blob {digest} have changed")
        return data

    def _open(self, tenant: TenantId, digest: Digest) -> Path:
        name = local.key(tenant, digest)
        path = self._root / name
        with local.disk_errors(f"blob {digest} cannot be read"):
            try:
                inode = path.stat().st_ino
                if self._verified.get(name) == inode:
                    return path
                found = local.hash_file(path)
            except FileNotFoundError:
                raise local.missing(tenant, digest) from None
        if found != digest:
            raise BadSignature(f"the stored bytes of blob {digest} have changed")
        self._verified[name] = inode
        return path

    def _delete(self, name: str) -> None:
        self._verified.pop(name, None)
        path = self._root / name
        with local.disk_errors(f"blob {path.name} cannot be removed"):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            local.sync_folder(path.parent)

    @staticmethod
    def _names(folder: Path) -> Sequence[str]:
        with local.disk_errors("blobs cannot be listed"):
            if not folder.is_dir():
                return []
            return sorted(entry.name for entry in os.scandir(folder) if len(entry.name) == 64)
