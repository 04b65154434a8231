"""What a child may use, and how it is measured.

Memory is measured from outside over the whole process tree: anonymous pages, shared pages that are mapped, and the
memfds that its processes hold (they count in nobody's resident set until they are mapped).  ``RLIMIT_AS`` would be
simpler and is of no use: torch and CUDA reserve address space far beyond what they touch.  ``RLIMIT_DATA`` stands
behind the watch, wide enough never to be hit first, against growth between two looks; it knows private memory only.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

# A forked worker's pages are its parent's until one of them writes: the resident set counts them in both, the
# proportional set shares them out, but the kernel must walk all pages to tell it. So it is asked only in doubt.
_RESIDENT = re.compile(rb"^Rss(?:Anon|Shmem):\s+(\d+) kB", re.MULTILINE)
_PROPORTIONAL = re.compile(rb"^Pss_(?:Anon|Shmem):\s+(\d+) kB", re.MULTILINE)
# One shared mapping of a memfd in "smaps": its inode, and its proportional share.
_MAPPED = re.compile(rb"^\S+ ..\Ss \S+ \S+ (\d+) +/memfd:[^\n]*\n(?:[A-Z]\w+:[^\n]*\n)*?Pss:\s+(\d+) kB", re.MULTILINE)
# Room for what an accelerator's driver maps into a process: much of it is address space that is never touched.
_DRIVER_MIB = 65_536


@dataclass(frozen=True)
class Limits:
    """Limits of one child."""

    memory_mib: int = 4096
    log_bytes: int = 1 << 20  # of what it prints; the rest is dropped
    start_s: float = 120.0  # until it has imported its app
    processes: int = 512
    accelerated: bool = False  # its libraries map device memory
    files: int = 4096  # open in each process

    @property
    def data_kib(self) -> int:
        """The hard ceiling of writable private memory of each process, in KiB."""
        return (2 * self.memory_mib + 1024 + (_DRIVER_MIB if self.accelerated else 0)) * 1024


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
        return [Path(f"/proc/{pid}/task/{tid}/children") for tid in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def memory_of(pids: list[int], limit: int) -> int:
    """Return the bytes of memory and of memfds that these processes hold; exact above ``limit``."""
    memfds: dict[int, int] = {}
    for pid in pids:
        memfds |= _memfds(pid)
    files = sum(memfds.values())
    used = files + sum(_kib(f"/proc/{pid}/status", _RESIDENT) for pid in pids) * 1024
    if used <= limit:
        return used
    shares = sum(_kib(f"/proc/{pid}/smaps_rollup", _PROPORTIONAL) for pid in pids)
    return files + (shares - sum(_mapped(pid, memfds) for pid in pids)) * 1024


def _kib(path: str, pattern: re.Pattern[bytes]) -> int:
    try:
        return sum(map(int, pattern.findall(Path(path).read_bytes())))
    except OSError:
        return 0


def _mapped(pid: int, memfds: dict[int, int]) -> int:
    """Return how many KiB of its mapped pages are of ``memfds``, which are counted already."""
    if not memfds:
        return 0
    try:
        found = _MAPPED.findall(Path(f"/proc/{pid}/smaps").read_bytes())
    except OSError:
        return 0
    return sum(int(share) for inode, share in found if int(inode) in memfds)


def _memfds(pid: int) -> dict[int, int]:
    sizes: dict[int, int] = {}
    try:
        entries = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it ended, or is not ours to look into
        return sizes
    for entry in entries:
        path = f"/proc/{pid}/fd/{entry}"
        with contextlib.suppress(OSError):  # closed meanwhile: that must not hide the others
            if os.readlink(path).startswith("/memfd:"):
                stat = os.stat(path)
                sizes[stat.st_ino] = stat.st_blocks * 512
    return sizes
