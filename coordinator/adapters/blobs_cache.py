"""A bounded local cache of verified blobs; losing all of it loses nothing."""

from __future__ import annotations

import os
from pathlib import Path

from common.clock import Clock
from common.ids import Digest
from coordinator.adapters import blobs_common as local

GRACE_S = 900.0  # an entry handed out so lately is kept, even over the bound: its caller may not have opened it yet


class BlobCache:
    """Files below ``root`` by blob name, the least recently used removed first.

    Args:
        root: Created if need be.
        limit: Bytes kept; entries used in the last ``GRACE_S`` may pass it.
        clock: Dates the entries.
    """

    def __init__(self, root: Path, limit: int, clock: Clock) -> None:
        self._root = root.absolute()
        self._limit = limit
        self._clock = clock
        self.work = self._root / ".work"
        with local.disk_errors(f"the cache folder {self._root} cannot be made"):
            self.work.mkdir(parents=True, exist_ok=True, mode=0o700)
            local.sweep(self.work)
        self._verified: dict[str, int] = {}

    def find(self, name: str, digest: Digest) -> Path | None:
        """Return the entry's path if it is there and has this digest; remove it if it has not."""
        path = self._root / name
        try:
            inode = path.stat().st_ino
            if self._verified.get(name) != inode and local.hash_file(path) != digest:
                self.forget(name)  # torn by a crash: entries are not synced
                return None
            self._touch(path)
        except FileNotFoundError:
            return None
        self._verified[name] = inode
        return path

    def adopt(self, name: str, path: Path) -> Path:
        """Move the verified file ``path`` in and return its new path."""
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o400)
        path.replace(target)
        self._touch(target)
        self._verified[name] = target.stat().st_ino
        self._trim()
        return target

    def forget(self, name: str) -> None:
        """Remove the entry; no error when there is none."""
        self._verified.pop(name, None)
        (self._root / name).unlink(missing_ok=True)

    def _touch(self, path: Path) -> None:
        now = self._clock.now()
        os.utime(path, (now, now))

    def _trim(self) -> None:
        entries = []
        for path in self._root.glob("*/blobs/sha256/*"):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue  # another thread trimmed it
            entries.append((found.st_mtime, found.st_size, path))
        total = sum(size for _, size, _ in entries)
        for used_at, size, path in sorted(entries):
            if total <= self._limit or used_at > self._clock.now() - GRACE_S:
                return
            self.forget(str(path.relative_to(self._root)))
            total -= size
