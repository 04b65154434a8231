"""``python -m common.cli.bound PARENT …``: the ``hansa`` command, ended by the kernel when process PARENT dies.

``hansa up`` ends its processes itself; this is for the day somebody kills it with -9.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from common.cli.__main__ import main

_PR_SET_PDEATHSIG = 1


def bind_to_parent(parent: int) -> None:
    """Ask for SIGTERM at the death of ``parent``, who started us; exit at once if it is dead already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    bind_to_parent(int(sys.argv.pop(1)))
    main()
