"""How a file is handed to a child so that it cannot be changed through the descriptor.

Where the kernel has Landlock the child has given up writing (``common.child.confine``) and gets the file itself.
Elsewhere it gets a sealed copy: a read-only descriptor alone can be opened again for writing by its owner.
"""

from __future__ import annotations

import fcntl
import functools
import os

from common.child import confine
from common.sandbox.seals import SEALS

_COPY = 1 << 20


@functools.lru_cache(maxsize=1)
def children_cannot_write() -> bool:
    """Return whether this kernel lets a child give up writing."""
    return confine.abi() >= confine.NEEDED_ABI


def sealed_copy(fd: int) -> int:
    """Return a sealed memfd with the content of ``fd``; the caller closes it.  Blocks."""
    copy = os.memfd_create("copy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        at = 0
        while data := os.pread(fd, _COPY, at):
            at += os.pwrite(copy, data, at)
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(copy)
        raise
    return copy
