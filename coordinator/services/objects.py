"""What a ServerApp's child hands over: sealed memory, hashed once, sent out from where it is.

A broadcast is never copied and never synced: after a crash the child makes it again.  Sealed memory cannot change or
shrink, so it may be mapped and its ``/proc`` name given to the node link as a file.

What the app sends on as it came from the fold is a header alone and rests on the fold's blob (``common.child.frames``).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.child.frames import object_header, read_object_header
from common.errors import AppFailed, BadUpdate, PlatformError
from common.ids import Digest, new_id
from common.sandbox import check_sealed
from common.tensors.content import Content, ContentLimits, parse_content, read_content
from common.tensors.safe import header_size, read_head
from coordinator.aggregation.verify import Tensor, reference_tensors
from coordinator.services.collect import Kept

MAX_OBJECTS = 300  # of one app, in exchanges that are open; one frame brings at most 250
MAX_MESSAGES = 10_000


@dataclass(frozen=True)
class HeldObject:
    """One object of the child; ours to close."""

    fd: int
    size: int
    digest: Digest
    base: Kept | None = None  # what it rests on

    @property
    def path(self) -> Path:
        """Return a name under which this process can open it."""
        return _path(self.fd)

    def content(self) -> Content:
        """Return what it holds.

        Raises:
            BadUpdate: it is no well-formed object, or does not fit its base.
        """
        if self.base is None:
            return read_content(self.fd, self.size)
        head, data = os.pread(self.fd, self.size, 0), self.base.size - _data_at(self.base)
        if header_size(head, self.size + data, ContentLimits()) != self.size:
            raise BadUpdate("an object that rests on another must be a header alone")
        return parse_content(head, self.size + data, base=self.base.digest)

    def tensors(self) -> tuple[int, Content, int]:
        """Return where its tensors are, its header, and how far they lie from where that says.

        Raises:
            BadUpdate: as ``content``.
        """
        if self.base is None:
            return self.fd, self.content(), 0
        return self.base.fd, self.content(), _data_at(self.base) - self.size

    def file(self, digest: str) -> Path | None:
        """Return a name of the file of that digest, if this object is or needs it."""
        if digest == self.digest:
            return self.path
        return _path(self.base.fd) if self.base is not None and digest == self.base.digest else None

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.fd)
        if self.base is not None:
            os.close(self.base.fd)


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


def rest(held: Sequence[HeldObject], bases: object, base: Kept | None) -> list[HeldObject]:
    """Return ``held`` with the objects that rest on another known for it.

    Args:
        held: As taken over; closed if anything is wrong.
        bases: The frame's claim: for each object the digest of what it rests on, or nothing.
        base: The one object that may be rested on; each that does gets a descriptor of its own.

    Raises:
        AppFailed: another one is named, or the object does not fit it.
    """
    done: list[HeldObject] = []
    try:
        claimed = bases if bases is not None else [None] * len(held)
        if not isinstance(claimed, list) or len(claimed) != len(held):
            raise BadUpdate(f"the frame names {str(claimed)[:100]} as bases of {len(held)} objects")
        for one, name in zip(held, claimed, strict=True):
            if name is not None and (base is None or name != base.digest):
                raise BadUpdate(f"an object rests on {str(name)[:80]!r}, which is not the last mean")
            done.append(one if name is None or base is None else replace(one, base=replace(base, fd=os.dup(base.fd))))
            if name is not None:
                done[-1].content()
    except BadUpdate as error:
        for one in [*done, *held[len(done) :]]:
            one.close()
        raise AppFailed(error.detail, reason="protocol_error") from error
    return done


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


def reference_of(held: Sequence[HeldObject]) -> tuple[Tensor, ...]:
    """Return the tensors that were sent out, if every node was sent the same object."""
    if len(held) != 1:
        return ()
    with contextlib.suppress(PlatformError):
        return reference_tensors(held[0].content())
    return ()


def copy_out(held: HeldObject, folder: Path) -> Path:
    """Return a new file in ``folder`` with the object's bytes."""
    target = folder / new_id("out")
    out = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        _copy(held.fd, out, 0, held.size)
    finally:
        os.close(out)
    return target


def made_whole(held: HeldObject, folder: Path) -> HeldObject:
    """Return what rests on a base as an object of its own, in a file that is gone with it; the caller closes it."""
    if held.base is None:
        return HeldObject(os.dup(held.fd), held.size, held.digest)
    head = os.pread(held.fd, held.size, 0)
    table, _ = read_object_header(head)
    metadata = table.pop("__metadata__")
    entries = (
        (name, row["dtype"], tuple(row["shape"]), row["data_offsets"][1] - row["data_offsets"][0])
        for name, row in sorted(table.items(), key=lambda item: item[1]["data_offsets"])
    )
    header = object_header(entries, {"hansa": metadata["hansa"]})
    path = folder / new_id("whole")
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        path.unlink()
        os.pwrite(fd, header, 0)
        os.lseek(fd, len(header), os.SEEK_SET)
        _copy(held.base.fd, fd, _data_at(held.base), held.base.size)
        size = os.fstat(fd).st_size
        return HeldObject(fd, size, _hash(fd, size))
    except BaseException:
        os.close(fd)
        raise


def _copy(source: int, out: int, at: int, end: int) -> None:
    while at < end:
        at += os.sendfile(out, source, at, end - at)


def _data_at(base: Kept) -> int:
    return header_size(read_head(base.fd, base.size, ContentLimits()), base.size, ContentLimits())


def _path(fd: int) -> Path:
    return Path(f"/proc/self/fd/{fd}")


def close_all(fds: Sequence[int]) -> None:
    """Close every descriptor."""
    for fd in fds:
        os.close(fd)


def _hash(fd: int, size: int) -> Digest:
    if size == 0:
        return Digest(hashlib.sha256().hexdigest())
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as memory:
        return Digest(hashlib.sha256(memory).hexdigest())
