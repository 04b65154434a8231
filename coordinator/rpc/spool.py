"""Updates on their way in: one file per (node, task, digest), written as chunks come, hashed on the way.

A file's first ``offset`` bytes are what has come; after a restart they are hashed again and the rest follows.  For a
fresh file the offset is its length.  A *recycled* file (overwriting 100 MB takes 7 ms, a fresh file 20) is longer than
what it holds, so its offset stands in a file beside it, written behind the data: too low after a crash, never too high
while the machine lives; if the machine died, the digest at the end finds out.  Nothing here is synced: an update that
is lost is sent again by its node.

All methods block; they are called in threads.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path

from common.crypto.files import private_folder
from common.errors import BadSignature, BadUpdate, LeaseLost, QuotaExceeded
from common.failpoints import failpoint
from common.ids import Digest, NodeId, TaskId
from common.units import MIB, Bytes
from coordinator.rpc.limits import LinkLimits

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REHASH = Bytes(4 * MIB)  # bytes a read
_WORTH_RECYCLING = Bytes(MIB)


class Spool:
    """The folder of updates, its quota and its recycled files."""

    def __init__(self, folder: Path, limits: LinkLimits) -> None:
        """Take over ``folder``: half-received updates there can be resumed, recycled files are used again."""
        self._folder, self._limits, self._lock = private_folder(folder), limits, threading.Lock()
        self._sizes = {path: path.stat().st_size for path in folder.glob("*.update")}
        self._partial = set(self._sizes)  # whether they are whole is found out when their nodes ask
        self._free = list(folder.glob("*.free"))

    def path(self, node: NodeId, task: TaskId, digest: Digest) -> Path:
        """Return where this update is spooled."""
        name = hashlib.sha256(f"{node}\0{task}\0{digest}".encode()).hexdigest()[:40]
        return self._folder / f"{name}.update"

    def held(self, path: Path) -> int:
        """Return how many bytes of it have come."""
        try:
            length = path.stat().st_size
        except FileNotFoundError:
            return 0
        mark = _mark(path)
        try:
            return min(length, int.from_bytes(mark.read_bytes(), "little"))
        except FileNotFoundError:
            return length

    def incoming(self, path: Path, digest: Digest, size: int) -> Incoming:
        """Return the update that is to come at ``path``; nothing is touched before its ``begin``."""
        return Incoming(self, path, digest, size)

    def claim(self, path: Path, size: int) -> tuple[int, bool]:
        """Reserve ``size`` bytes and return an open file at ``path`` and whether an offset file goes with it.

        Raises:
            QuotaExceeded: the spool has no room.
        """
        with self._lock:
            self._reserve(path, size)
            recycled = size >= _WORTH_RECYCLING and not path.exists() and self._take_recycled(path)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._partial.add(path)
            return fd, recycled or _mark(path).exists()

    def finished(self, path: Path) -> None:
        """Note that the update at ``path`` is whole: from now on its file is the services'."""
        with self._lock:
            self._partial.discard(path)

    def release(self, path: Path) -> None:
        """Take back a spooled update that nobody needs or maps any longer; its file may be overwritten."""
        with self._lock:
            size = self._sizes.pop(path, 0)
            self._partial.discard(path)
            kept = sum(_size(free) for free in self._free)
            if not path.exists():
                return
            if size < _WORTH_RECYCLING or kept + size > self._limits.recycled_bytes:
                _remove(path)
                return
            free = self._folder / f"{secrets.token_hex(8)}.free"
            path.rename(free)
            _mark(path).unlink(missing_ok=True)
            self._free.append(free)

    def drop(self, path: Path) -> None:
        """Delete what has come of an update."""
        with self._lock:
            self._sizes.pop(path, None)
            self._partial.discard(path)
            _remove(path)

    def make_room(self) -> bool:
        """Delete the recycled files; return whether there were any."""
        with self._lock:
            for free in self._free:
                free.unlink(missing_ok=True)
            had, self._free = bool(self._free), []
            return had

    def sweep(self, before: float) -> int:
        """Delete what has come of updates that nobody went on with since ``before`` (UTC seconds); return how many."""
        with self._lock:
            old = [path for path in self._partial if _touched(path) < before]
        for path in old:
            self.drop(path)
        return len(old)

    def _reserve(self, path: Path, size: int) -> None:
        others = sum(held for other, held in self._sizes.items() if other != path)
        if others + size > self._limits.spool_bytes:
            raise QuotaExceeded(
                f"{size} bytes do not fit: {others} of {self._limits.spool_bytes} bytes of the spool are taken",
                code="spool_full",
            )
        self._sizes[path] = size

    def _take_recycled(self, path: Path) -> bool:
        if not self._free:
            return False
        _mark(path).write_bytes(bytes(8))  # before the rename: its old bytes must never count
        self._free.pop().rename(path)
        return True


class Incoming:
    """One update while it comes.  ``close`` may be called while another thread writes: it waits for it."""

    def __init__(self, spool: Spool, path: Path, digest: Digest, size: int) -> None:
        """Describe it; ``begin`` opens the file."""
        self.path, self.size, self.offset = path, size, 0
        self._spool, self._digest, self._hash = spool, digest, hashlib.sha256()
        self._fd = self._mark = -1
        self._lock, self._closed = threading.Lock(), False

    def begin(self, offset: int) -> None:
        """Open the file and hash its first ``offset`` bytes; what lies behind them is overwritten.

        Raises:
            LeaseLost: fewer bytes are there. QuotaExceeded: the spool has no room.
        """
        with self._lock:
            if self._closed:
                return
            held = self._spool.held(self.path)
            if offset > held:
                raise LeaseLost(f"{held} bytes are held, not {offset}", code="offset_mismatch")
            try:
                self._fd, marked = self._spool.claim(self.path, self.size)
                if marked:
                    self._mark = os.open(_mark(self.path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                    os.ftruncate(self._fd, min(self.size, os.fstat(self._fd).st_size))
                else:
                    os.ftruncate(self._fd, offset)
                self._rehash(offset)
            except OSError as error:
                raise self._given_up(error) from error

    def _rehash(self, offset: int) -> None:
        while self.offset < offset:
            part = os.pread(self._fd, min(_REHASH, offset - self.offset), self.offset)
            if not part:
                raise LeaseLost("the spooled file is shorter than it was", code="offset_mismatch")
            self._hash.update(part)
            self.offset += len(part)

    def write(self, chunks: Sequence[bytes]) -> None:
        """Append ``chunks``.

        Raises:
            QuotaExceeded: the disk is full, even without the recycled files; what had come is dropped.
        """
        with self._lock:
            if self._closed:
                return
            try:
                for chunk in chunks:
                    self._hash.update(chunk)
                    self._append(chunk)
                if self._mark >= 0:
                    os.pwrite(self._mark, self.offset.to_bytes(8, "little"), 0)
            except OSError as error:
                raise self._given_up(error) from error

    def _given_up(self, error: OSError) -> Exception:
        self._release()
        self._spool.drop(self.path)  # half an update must not keep others from being whole
        if error.errno in _FULL:
            return QuotaExceeded("the coordinator's disk is full", code="disk_full")
        return error

    def _append(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            try:
                done = os.pwrite(self._fd, view, self.offset)
            except OSError as error:
                if error.errno not in _FULL or not self._spool.make_room():
                    raise
                continue
            failpoint("update_mid_chunk")
            self.offset += done
            view = view[done:]

    def finish(self) -> None:
        """Check that the whole update is there and is what its digest names.

        Raises:
            BadUpdate: it is cut short (what came is kept). BadSignature: it is something else (it is dropped).
        """
        if self.offset != self.size:
            raise BadUpdate(f"{self.offset} of {self.size} bytes came", code="incomplete")
        if self._hash.hexdigest() != self._digest:
            self.close()
            self._spool.drop(self.path)
            raise BadSignature(f"the update's bytes do not have the digest {self._digest}", code="wrong_digest")
        with self._lock:
            if not self._closed:
                os.ftruncate(self._fd, self.size)
                self._release()
        _mark(self.path).unlink(missing_ok=True)
        self._spool.finished(self.path)

    def close(self) -> None:
        """Release the descriptors; idempotent."""
        with self._lock:
            self._release()

    def _release(self) -> None:
        for fd in (self._fd, self._mark):
            if fd >= 0:
                os.close(fd)
        self._fd = self._mark = -1
        self._closed = True


def _mark(path: Path) -> Path:
    return path.with_suffix(".at")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _mark(path).unlink(missing_ok=True)


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _touched(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0
