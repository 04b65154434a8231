"""Dirty pages on their way to the disk before somebody waits for them.

A sync at the end of 100 MB waits for all of them; told page range by page range, the disk works while the next range
is being made.  This is advice: only the sync that follows makes anything durable.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_WRITE = 2  # SYNC_FILE_RANGE_WRITE: start, do not wait


def _found() -> Callable[[int, int, int, int], int] | None:
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is None:  # another C library than glibc
        return None
    function.argtypes, function.restype = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint), ctypes.c_int
    return function  # type: ignore[no-any-return]  # ctypes names no types


_sync_file_range = _found()


def start_writing(fd: int, offset: int, size: int) -> None:
    """Start writing ``size`` bytes of ``fd`` from ``offset`` on to the disk; a file system may take no advice."""
    if _sync_file_range is not None and size > 0:
        _sync_file_range(fd, offset, size, _WRITE)
