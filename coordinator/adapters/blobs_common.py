"""What both blob stores share: checked names, durable local files, and what the disk's errors mean."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import ids
from common.errors import NotFound, PlatformError, QuotaExceeded, Unreachable
from common.ids import Digest, TenantId

TEMPORARY = ".put-"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BLOCK = 1 << 20


def folder_key(tenant: TenantId) -> str:
    """Return the tenant's prefix, refusing anything that is not one tenant's name.

    Raises:
        BadInput: ``tenant`` is no slug.
    """
    return f"{ids.slug(tenant, what='tenant')}/blobs/sha256"


def key(tenant: TenantId, digest: Digest) -> str:
    """Return the blob's name below the store's root.

    Raises:
        BadInput: ``tenant`` is no slug or ``digest`` no digest.
    """
    return f"{folder_key(tenant)}/{ids.digest(digest)}"


def missing(tenant: TenantId, digest: Digest) -> NotFound:
    """Return the error for a blob that is not there."""
    return NotFound(f"tenant {tenant} has no blob {digest}")


def hash_file(path: Path) -> Digest:
    """Return the digest of a file's bytes."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hashed.update(block)
    return Digest(hashed.hexdigest())


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Translate the operating system's refusals into ours.

    Raises:
        QuotaExceeded: the disk or the quota on it is full. Unreachable: any other failure.
    """
    try:
        yield
    except PlatformError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise QuotaExceeded(f"{what}: {error.strerror}", next_step="free space on that disk") from error
        raise Unreachable(f"{what}: {error.strerror or error}") from error


@contextmanager
def temporary(work: Path) -> Iterator[tuple[int, Path]]:
    """Yield an open new file in ``work``; whatever is still under its name afterwards is removed."""
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=work)
    try:
        yield descriptor, Path(name)
    finally:
        os.close(descriptor)
        Path(name).unlink(missing_ok=True)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; a short write is continued."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, root: Path) -> None:
    """Create ``folder`` below ``root`` so that it survives a crash of the machine."""
    if folder.is_dir():
        return
    if folder != root:
        make_folder(folder.parent, root)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def settle(descriptor: int, source: Path, target: Path) -> None:
    """Sync the finished file ``source``, open as ``descriptor``, and move it to ``target`` durably."""
    os.fchmod(descriptor, 0o400)
    os.fsync(descriptor)
    source.replace(target)
    sync_folder(target.parent)


def sweep(work: Path) -> None:
    """Remove what a killed process left half written: folds, copies and uploads as well as blobs."""
    for left in work.iterdir():
        if left.is_file():
            left.unlink(missing_ok=True)
