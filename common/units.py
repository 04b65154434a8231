"""Units as types, so that a limit cannot be passed in the wrong one."""

from __future__ import annotations

from typing import NewType

Seconds = NewType("Seconds", float)
Bytes = NewType("Bytes", int)

KIB = 1024
MIB = 1024 * 1024
GIB = 1024 * 1024 * 1024
CHUNK = Bytes(MIB)  # measured: 1 MiB is the best gRPC message; 4 MiB halves upload speed
WINDOW = Bytes(2 * MIB)  # of a stream on the way; with gRPC's 64 KiB both ends wait and wake 16 times a chunk
