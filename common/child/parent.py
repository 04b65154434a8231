"""The child's end of the conversation with its parent."""

from __future__ import annotations

import os
import socket
import threading
import traceback
from collections.abc import Sequence
from typing import Any

from common.child import frames

MAX_TEXT = 16_000  # characters of a message or traceback in a frame; the log has the rest


class Stop(BaseException):
    """The job is over for a reason that the app must not swallow (hence no ``Exception``).

    Args:
        reason: One of the reason codes of children.
        message: One sentence for the job's owner.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Parent:
    """Frames to and from the process that started us; without it this process ends at once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """Return the next frame; a parent that has gone ends this process."""
        try:
            got = frames.receive(self._sock)
        except (OSError, frames.FrameError):
            got = None
        if got is None:
            os._exit(0)
        return got

    def tell(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send a frame and close its descriptors."""
        with self._lock:
            self._send(message, fds)

    def ask(self, message: dict[str, Any], fds: Sequence[int] = ()) -> tuple[dict[str, Any], list[int]]:
        """Send a frame, close its descriptors, and return the answer; one question at a time, whatever the thread."""
        with self._lock:
            self._send(message, fds)
            return self.receive()

    def _send(self, message: dict[str, Any], fds: Sequence[int]) -> None:
        try:
            frames.send(self._sock, message, fds)
        except BrokenPipeError:
            os._exit(0)
        finally:
            for fd in fds:
                os.close(fd)


def failure(error: BaseException) -> dict[str, Any]:
    """Return the ``failed`` frame for what stopped the app, with the reason code it deserves."""
    text = "".join(traceback.format_exception(error))
    if isinstance(error, Stop):
        reason, message = error.reason, error.message
    elif isinstance(error, SystemExit):
        reason, message = "app_exited", f"the app called sys.exit({error.code!r})"
    elif isinstance(error, MemoryError):
        reason, message = "app_memory", "the app ran into its memory limit"
    else:
        reason, message = "app_raised", "".join(traceback.format_exception_only(error)).strip()
    return {"op": "failed", "reason": reason, "message": message[:MAX_TEXT], "traceback": text[-MAX_TEXT:]}
