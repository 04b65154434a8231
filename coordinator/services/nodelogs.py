"""What apps print at the nodes, if the nodes share it: one file a node and job, bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

from common.ids import JobId, slug
from common.units import MIB
from coordinator.domain.jobs import RosterEntry

_LIMIT = 4 * MIB  # bytes of one node's log of one job


class NodeLogs:
    """Writes ``<jobs>/<job>/nodes/<tenant>/<name>.log``: names of nodes are unique in a tenant only."""

    def __init__(self, jobs_dir: Path) -> None:
        self._jobs_dir = jobs_dir

    async def append(self, job: JobId, entry: RosterEntry, text: str) -> None:
        """Add text, until the log is full."""
        await asyncio.to_thread(_append, log_path(self._jobs_dir, job, entry), text)


def log_path(jobs_dir: Path, job: JobId, entry: RosterEntry) -> Path:
    """Return where the log of one node of a job is."""
    tenant, name = slug(entry.tenant, what="tenant"), slug(entry.name, what="node name")
    return jobs_dir / job / "nodes" / tenant / f"{name}.log"


def _append(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = path.stat().st_size if path.exists() else 0
    if size >= _LIMIT:
        return
    data = text.encode(errors="replace")[: _LIMIT - size]
    if size + len(data) >= _LIMIT:
        data += b"\n[the log is full]\n"
    with path.open("ab") as file:
        file.write(data)
