"""One agent a directory; and the way to call on the one that runs."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

from common.errors import Conflict


class AgentLock:
    """Held as long as the agent runs; the kernel lets go of it however the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock and leave our pid in it.

        Raises:
            Conflict: another agent runs on this directory.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(fd, 20).decode(errors="replace").strip()
            os.close(fd)
            raise Conflict(
                f"an agent runs on {self._path.parent} already (process {pid})", next_step="hansa node status"
            ) from None
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
        self._fd = fd

    def release(self) -> None:
        """Let go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def running_agent(path: Path) -> int | None:
    """Return the process of the agent that holds the lock at ``path``, if one does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(fd, 20).decode(errors="replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(fd)
    return None


def poke_agent(path: Path) -> bool:
    """Tell the running agent that something changed; return whether there is one."""
    pid = running_agent(path)
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError:
        return False
    return True
