"""What a ServerApp's child hands over: sealed memory, hashed once, sent out from where it is.

A broadcast is never copied and never synced: after a crash the child makes it again.  Sealed memory cannot change or
shrink, so it may be mapped and its ``/proc`` name given to the node link as a file.
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import AppFailed, BadUpdate
from common.ids import Digest, new_id
from common.sandbox import check_sealed

MAX_OBJECTS = 300  # of one app, in exchanges that are open; one frame brings at most 250
MAX_MESSAGES = 10_000


@dataclass(frozen=True)
class HeldObject:
    """One object of the child; ours to close."""

    fd: int
    size: int
    digest: Digest

    @property
    def path(self) -> Path:
        """Return a name under which this process can open it."""
        return Path(f"/proc/self/fd/{self.fd}")

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.fd)


async def hold(fds: Sequence[int], sizes: object, *, limit: int, inline: int) -> list[HeldObject]:
    """Take over the descriptors of a frame.

    Args:
        fds: As received; closed if anything is wrong.
        sizes: The frame's claim of their sizes.
        limit: Bytes one object may have.
        inline: Bytes up to which an object is hashed on the spot.

    Raises:
        AppFailed: not sealed, not as many or as large as claimed, or too large.
    """
    try:
        actual = [check_sealed(fd) for fd in fds]
        if actual != sizes:
            raise BadUpdate(f"the frame claims objects of {str(sizes)[:200]} bytes, they have {actual[:20]}")
        if any(size > limit for size in actual):
            raise BadUpdate(f"an object of {max(actual)} bytes is over the limit of {limit}")
        if sum(actual) <= inline:
            digests = [_hash(fd, size) for fd, size in zip(fds, actual, strict=True)]
        else:
            digests = [await asyncio.to_thread(_hash, fd, size) for fd, size in zip(fds, actual, strict=True)]
    except BadUpdate as error:
        close_all(fds)
        raise AppFailed(error.detail, reason="protocol_error") from error
    except BaseException:
        close_all(fds)
        raise
    return [HeldObject(fd, size, digest) for fd, size, digest in zip(fds, actual, digests, strict=True)]


def check_room(objects: Sequence[HeldObject], messages: int, limit: int) -> None:
    """Check what an app has under way at once: its objects are in our memory and take a descriptor each.

    Raises:
        AppFailed: over ``MAX_OBJECTS`` objects, over ``limit`` bytes of them, or over ``MAX_MESSAGES`` messages.
    """
    size = sum(held.size for held in objects)
    if len(objects) <= MAX_OBJECTS and size <= limit and messages <= MAX_MESSAGES:
        return
    raise AppFailed(
        f"the app has {messages} messages with {len(objects)} objects of {size} bytes under way; {MAX_MESSAGES} "
        f"messages, {MAX_OBJECTS} objects and {limit} bytes are allowed",
        reason="refused",
        next_step="pull replies before pushing more",
    )


def copy_out(held: HeldObject, folder: Path) -> Path:
    """Return a new file in ``folder`` with the object's bytes."""
    target = folder / new_id("out")
    out = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        at = 0
        while at < held.size:
            at += os.sendfile(out, held.fd, at, held.size - at)
    finally:
        os.close(out)
    return target


def close_all(fds: Sequence[int]) -> None:
    """Close every descriptor."""
    for fd in fds:
        os.close(fd)


def _hash(fd: int, size: int) -> Digest:
    if size == 0:
        return Digest(hashlib.sha256().hexdigest())
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as memory:
        return Digest(hashlib.sha256(memory).hexdigest())
