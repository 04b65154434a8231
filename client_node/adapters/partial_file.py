"""A download on disk: a partial file that grows, is hashed on the way and gets its name only when it is whole.

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

    def __init__(self, target: Path, digest: str, size: int) -> None:
        """Describe it; ``begin`` opens it."""
        self.offset = 0
        self._target, self._digest, self._size = target, digest, size
        self._part = target.with_name(target.name + ".part")
        self._hash, self._fd = hashlib.sha256(), -1
        self._lock, self._closed = threading.Lock(), False

    def begin(self) -> int:
        """Open the file, hash what it holds from an earlier try, and return how much that is."""
        with self._lock:
            if self._closed:
                return 0
            self._fd = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.fstat(self._fd).st_size > self._size:
                os.ftruncate(self._fd, 0)
            while part := os.pread(self._fd, _READ, self.offset):
                self._hash.update(part)
                self.offset += len(part)
            return self.offset

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
        self.close()
        if self.offset != self._size or self._hash.hexdigest() != self._digest:
            self.drop()
            return False
        self._part.replace(self._target)
        return True

    def drop(self) -> None:
        """Delete what has come."""
        self.close()
        self._part.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the descriptor; idempotent.  What has come stays for the next try."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd, self._closed = -1, True
