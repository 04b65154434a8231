"""What a coordinator takes of its machine: the lock of its folder, its ports."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from common.errors import Conflict, Unreachable


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel lets go of it however the process ends.

    Raises:
        Conflict: another coordinator holds it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"a coordinator runs on {path.parent} already") from None
        yield
    finally:
        os.close(fd)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        Unreachable: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise Unreachable(f"the REST face cannot listen on {host}:{port}: {error.strerror or error}") from error


def free_port(host: str) -> int:
    """Return a port of ``host`` that nobody uses now."""
    with listen(host, 0) as found:
        return int(found.getsockname()[1])


def ports_before(path: Path) -> dict[str, int]:
    """Return the ports of the last run: nodes know the link's, and come back to it."""
    try:
        said = json.loads(path.read_text())
        return {
            "port": int(str(said["url"]).rpartition(":")[2]),
            "link_port": int(str(said["link"]).rpartition(":")[2]),
        }
    except (OSError, ValueError, KeyError):
        return {}
