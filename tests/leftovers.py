"""What the tests started and nobody ended."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

DYING_S = 20.0  # a process that was killed may still be on its way out


def processes(folder: Path) -> dict[int, str]:
    """Return the living processes, except our own, whose command line or environment names ``folder``."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line, environment = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
        except OSError:  # it ended meanwhile, or is another user's
            continue
        if int(place.name) != os.getpid() and os.fsencode(folder) in line + environment:
            found[int(place.name)] = line.replace(b"\0", b" ").decode(errors="replace")
    return found


def processes_that_stay(folder: Path, before: Collection[int]) -> dict[int, str]:
    """Return those of ``processes``, without the pids ``before``, that do not end by themselves in a while."""
    until = time.monotonic() + DYING_S
    while True:
        found = {pid: line for pid, line in processes(folder).items() if pid not in before}
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.1)
