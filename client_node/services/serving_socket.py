"""Where the model server listens, and who may ask it from elsewhere."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from common.crypto.files import write_atomic

_BACKLOG = 2048  # clients that may wait while the process is started again


def listen(host: str, port: int, note: Path) -> socket.socket:
    """Return a listening socket; port 0 is the port of last time (kept in ``note``), else any free one.

    Raises:
        OSError: a given port is taken, or ``host`` is no address of this machine.
    """
    if port:
        return _bound(host, port, note)
    try:
        return _bound(host, _last(note), note)
    except OSError:
        return _bound(host, 0, note)


def bearer_token(path: Path) -> str:
    """Return the token that requests from elsewhere must bear, made at the first time; only the owner can read it."""
    if not path.exists():
        write_atomic(path, secrets.token_urlsafe(32).encode(), mode=0o600)
    path.chmod(0o600)
    return path.read_text().strip()


def _bound(host: str, port: int, note: Path) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        write_atomic(note, str(listener.getsockname()[1]).encode())
    except BaseException:
        listener.close()
        raise
    return listener


def _last(note: Path) -> int:
    try:
        port = int(note.read_text())
    except (OSError, ValueError):
        return 0
    return port if 1024 <= port < 65536 else 0
