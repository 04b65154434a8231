"""What a child hands over must be a memfd; and, where it is mapped or served, one that nobody can change any more.

A ClientApp's answer is read once, into what is hashed and kept; so its child may keep the memory and use it again
(fresh pages for 100 MB take 55 ms, written ones 10).
"""

from __future__ import annotations

import fcntl
import os
from typing import Any

from common.child.frames import FrameError
from common.errors import BadUpdate

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL

# Frames of a child whose descriptors are announced; with them, where the sizes are.
_MANY = ("exchange", "push")
_ONE = {"finished": ("object",), "reply": ("object", "state"), "exported": ("graph",)}
_NONE = (
    "ready", "failed", "nodes", "pull", "evaluated", "round_done", "error"
)  # fmt: skip


def check_sealed(fd: int) -> int:
    """Return the size of a fully sealed memfd.

    Raises:
        BadUpdate: it is something else; its reader could be stopped or deceived while it reads.
    """
    if _seals(fd) & SEALS != SEALS:
        raise BadUpdate("a child handed over a memfd that is not sealed")
    return os.fstat(fd).st_size


def check_memory(fd: int) -> int:
    """Return the size that a memfd has now; it may change while it is read, but reading it never waits.

    Raises:
        BadUpdate: it is something else, whose reader could be stopped.
    """
    _seals(fd)
    return os.fstat(fd).st_size


def _seals(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise BadUpdate("a child handed over a descriptor that is no memfd") from error


def check_frame(message: dict[str, Any], fds: list[int]) -> None:
    """Check that the descriptors of a child's frame are what the frame says.

    Raises:
        FrameError: another number of descriptors, an unsealed one, or another size than announced.
    """
    sizes = _announced(message)
    if sizes is None:
        return  # a program of its own, with frames of its own
    if len(sizes) != len(fds):
        raise FrameError(f"frame {message.get('op')!r} announces {len(sizes)} objects and brings {len(fds)}")
    for index, (size, fd) in enumerate(zip(sizes, fds, strict=True)):
        lent = message["op"] == "reply" and index == 0
        try:
            real = check_memory(fd) if lent else check_sealed(fd)
        except BadUpdate as error:
            raise FrameError(error.detail) from error
        if not isinstance(size, int) or isinstance(size, bool) or real != size:
            raise FrameError(f"an object announced with {size!r} bytes has {real}")


def _announced(message: dict[str, Any]) -> list[Any] | None:
    op = message.get("op")
    if op in _MANY:
        sizes = message.get("objects")
        if not isinstance(sizes, list):
            raise FrameError(f"frame {op!r} has no list of objects")
        return sizes
    if isinstance(op, str) and op in _ONE:
        return [message[key] for key in _ONE[op] if message.get(key) is not None]
    return [] if op in _NONE else None
