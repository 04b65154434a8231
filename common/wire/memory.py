"""How this process gets and keeps memory for chunks.

glibc maps and unmaps every block of 128 KiB and more at first: for a stream of 1 MiB chunks that is a page fault for
each 4 KiB, which costs as much as the transfer itself (measured: 0.19 s of CPU instead of 0.09 s to write 100 MB).
So chunks come from the heap, models (over ``KEEP``) still from fresh pages that go back when they are freed.
"""

from __future__ import annotations

import ctypes
import os

from common.units import MIB

KEEP = 8 * MIB  # larger blocks are given back to the kernel at once
_SETTINGS = (  # mallopt(3): parameter, value, the environment variable by which an operator overrides it
    (-3, KEEP, "MALLOC_MMAP_THRESHOLD_"),
    (-1, 64 * MIB, "MALLOC_TRIM_THRESHOLD_"),
    (-2, 16 * MIB, "MALLOC_TOP_PAD_"),
    (-8, 1, "MALLOC_ARENA_MAX"),  # the threads that move chunks share freed ones
)


def keep_chunks() -> bool:
    """Tell malloc to reuse chunks; return whether this C library takes the advice.  Call before threads start."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    taken = [mallopt(key, value) == 1 for key, value, name in _SETTINGS if name not in os.environ]
    return all(taken)
