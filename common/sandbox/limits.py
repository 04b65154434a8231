"""What a child may use, and how it is measured.

Memory is measured from outside over the whole process tree: anonymous pages, and the memfds that its processes hold
(they count in nobody's resident set until they are mapped).  ``RLIMIT_AS`` would be simpler and is of no use: torch
and CUDA reserve address space far beyond what they touch.  ``RLIMIT_DATA`` stands behind the watch, wide enough never
to be hit first, against growth between two looks.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

# A forked worker's pages are its parent's until one of them writes: the resident set counts them in both, the
# proportional set shares them out, but the kernel must walk all pages to tell it. So it is asked only in doubt.
_RESIDENT = re.compile(rb"^RssAnon:\s+(\d+) kB", re.MULTILINE)
_PROPORTIONAL = re.compile(rb"^Pss_Anon:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True)
class Limits:
    """Limits of one child."""

    memory_mib: int = 4096
    log_bytes: int = 1 << 20  # of what it prints; the rest is dropped
    start_s: float = 120.0  # until it has imported its app
    processes: int = 512

    @property
    def data_kib(self) -> int:
        """The hard ceiling of writable private memory of each process, in KiB."""
        return (2 * self.memory_mib + 1024) * 1024


def process_tree(pid: int) -> list[int]:
    """Return ``pid`` and all its descendants that are alive."""
    found, queue = [pid], [pid]
    while queue:
        for tasks in _tasks(queue.pop()):
            try:
                children = [int(child) for child in tasks.read_text().split()]
            except OSError:
                continue
            found += children
            queue += children
    return found


def _tasks(pid: int) -> list[Path]:
    try:
        return [Path(f"/proc/{pid}/task/{tid}/children") for tid in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208
    except OSError:
        return []


def memory_of(pids: list[int], limit: int) -> int:
    """Return the bytes of anonymous memory and of memfds that these processes hold; exact above ``limit``."""
    memfds: dict[int, int] = {}
    for pid in pids:
        memfds |= _memfds(pid)
    files = sum(memfds.values())
    used = files + sum(_kib(f"/proc/{pid}/status", _RESIDENT) for pid in pids) * 1024
    if used <= limit or len(pids) == 1:
        return used
    return files + sum(_kib(f"/proc/{pid}/smaps_rollup", _PROPORTIONAL) for pid in pids) * 1024


def _kib(path: str, pattern: re.Pattern[bytes]) -> int:
    try:
        match = pattern.search(Path(path).read_bytes())
    except OSError:
        return 0
    return int(match.group(1)) if match else 0


def _memfds(pid: int) -> dict[int, int]:
    sizes: dict[int, int] = {}
    folder = Path(f"/proc/{pid}/fd")
    try:
        for entry in folder.iterdir():
            if str(entry.readlink()).startswith("/memfd:"):
                stat = entry.stat()
                sizes[stat.st_ino] = stat.st_blocks * 512
    except OSError:  # it ended, or is not ours to look into
        return sizes
    return sizes
