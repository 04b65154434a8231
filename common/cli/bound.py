"""``python -m common.cli.bound …``: the ``hansa`` command, ended by the kernel when its parent dies.

``hansa up`` ends its processes itself; this is for the day somebody kills it with -9.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from common.cli.__main__ import main

_PR_SET_PDEATHSIG = 1


def bind_to_parent() -> None:
    """Ask for SIGTERM at the parent's death; exit at once if it is dead already."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    bind_to_parent()
    main()
