"""A download on disk: a partial file that grows, is hashed on the way and gets its name only when it is whole.

It may overwrite a file that nobody reads any longer: 100 MB of fresh pages cost 30 ms, and 200 ms on a virtual machine
that gives free memory back to its host, where an old file takes 10.  An overwritten file is longer than what has come,
so how much that is stands in a file beside it (``target.part.at``), written behind the data.

Not synced: what a node downloads can be downloaded again, and whoever keeps it for good checks its digest when reading.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from common.errors import BadSignature, QuotaExceeded
from common.failpoints import failpoint
from common.units import MIB

_READ = 4 * MIB  # bytes at once, when what is there is hashed again


class PartialFile:
    """``target.part`` on its way to be ``target``.  Methods block; ``close`` waits for the one that runs."""

    def __init__(self, target: Path, digest: str, size: int, over: Path | None = None) -> None:
        """Describe it; ``begin`` opens it, and uses up the file ``over`` if there is one and nothing has come yet."""
        self.offset = 0
        self._target, self._digest, self._size = target, digest, size
        self._part = target.with_name(target.name + ".part")
        self._at, self._over = self._part.with_name(self._part.name + ".at"), over
        self._hash, self._fd, self._mark = hashlib.sha256(), -1, -1
        self._lock, self._closed = threading.Lock(), False

    def begin(self) -> int:
        """Open the file, hash what it holds from an earlier try, and return how much that is."""
        with self._lock:
            if self._closed:
                return 0
            self._use_up()
            self._fd = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            held = os.fstat(self._fd).st_size
            if self._at.exists():
                self._mark = os.open(self._at, os.O_RDWR | os.O_CLOEXEC)
                held = min(held, int.from_bytes(os.pread(self._mark, 8, 0), "little"))
            elif held > self._size:
                os.ftruncate(self._fd, 0)
            while part := os.pread(self._fd, max(0, min(_READ, held - self.offset)), self.offset):
                self._hash.update(part)
                self.offset += len(part)
            return self.offset

    def _use_up(self) -> None:
        if self._over is None or self._part.exists() or not self._over.exists():
            return
        self._at.write_bytes(bytes(8))  # before the rename: the old bytes must never count
        self._over.replace(self._part)

    def write(self, chunks: Sequence[bytes]) -> None:
        """Append ``chunks``.

        Raises:
            BadSignature: more comes than was announced. QuotaExceeded: this node's disk is full.
        """
        with self._lock:
            if self._closed:
                return
            for chunk in chunks:
                self._hash.update(chunk)
                self._append(chunk)
                failpoint("download_mid_chunk")
            if self._mark >= 0:
                os.pwrite(self._mark, self.offset.to_bytes(8, "little"), 0)

    def _append(self, chunk: bytes) -> None:
        if self.offset + len(chunk) > self._size:
            raise BadSignature(f"more than the announced {self._size} bytes came", code="wrong_size")
        view = memoryview(chunk)
        while view:
            try:
                done = os.pwrite(self._fd, view, self.offset)
            except OSError as error:
                raise QuotaExceeded(
                    f"{self._target.parent} cannot take {self._size} bytes: {error.strerror}", code="node_disk_full"
                ) from error
            self.offset += done
            view = view[done:]

    def finish(self) -> bool:
        """Give the whole file its name; return False, and drop it, if it is not what its digest names."""
        if self.offset != self._size or self._hash.hexdigest() != self._digest:
            self.drop()
            return False
        with self._lock:
            if self._fd >= 0:
                os.ftruncate(self._fd, self._size)
        self.close()
        self._part.replace(self._target)
        self._at.unlink(missing_ok=True)
        return True

    def drop(self) -> None:
        """Delete what has come."""
        self.close()
        self._part.unlink(missing_ok=True)
        self._at.unlink(missing_ok=True)  # after the file: without it all of the file would count

    def close(self) -> None:
        """Release the descriptors; idempotent.  What has come stays for the next try."""
        with self._lock:
            for fd in (self._fd, self._mark):
                if fd >= 0:
                    os.close(fd)
            self._fd, self._mark, self._closed = -1, -1, True
