"""Reads the first frame and plays the role that it names."""

from __future__ import annotations

import socket

from common.child import shim, simulate
from common.child.client import run_client
from common.child.export import run_export
from common.child.parent import Parent, Stop, failure
from common.child.server import run_server

__all__ = ["serve", "simulate"]

_ROLES = {"server": run_server, "client": run_client, "export": run_export}


def serve(sock: socket.socket) -> None:
    """Play the role of the ``start`` frame until the parent ends it."""
    shim.install(in_files=True)
    parent = Parent(sock)
    start, _ = parent.receive()
    role = _ROLES.get(start.get("role", ""))
    if start.get("op") != "start" or role is None:
        parent.tell(failure(Stop("protocol_error", "the first frame must be a start with a known role")))
        return
    role(parent, {"node_config": {}, "run_config": {}, "seed": 0, "node_id": 0, "aggregation": "auto", **start})
