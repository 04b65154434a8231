"""The program of a child process: ``python <this file> FD`` (or ``simulate …``), started by path.

Order matters here.  Flower and numpy come first, from the job's environment.  Then our own modules, through an entry
of ``sys.path`` that is taken away again together with the name ``common``: what the app imports as ``common`` is its
own folder, and nothing in the app's folder can be imported in place of ours.  So nothing of ours may be imported later.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> int:
    """Serve the parent on descriptor ``argv[0]``, or simulate."""
    _die_with_parent()
    faulthandler.enable()
    if argv[0] == "simulate":
        roles = _our_modules()
        return int(roles.simulate.main(argv[1:]))
    sock = socket.socket(fileno=int(argv[0]))
    sock.set_inheritable(False)
    roles = _our_modules()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    roles.serve(sock)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # an app's threads and exit hooks have had their time


def _die_with_parent() -> None:
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _our_modules() -> Any:
    for name in ("flwr.clientapp", "flwr.serverapp", "numpy"):
        importlib.import_module(name)
    ours = str(Path(__file__).resolve().parents[2])
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "common"}
    for name in kept:
        del sys.modules[name]
    sys.path.insert(0, ours)
    try:
        from common.child import roles
    finally:
        sys.path.remove(ours)
        for name in [name for name in sys.modules if name.partition(".")[0] == "common"]:
            del sys.modules[name]
    return roles


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
