"""What apps print at the nodes, if the nodes share it: one file a node and job, bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

from common.ids import JobId, slug
from common.units import MIB

_LIMIT = 4 * MIB  # bytes of one node's log of one job


class NodeLogs:
    """Writes ``<jobs>/<job>/nodes/<name>.log``."""

    def __init__(self, jobs_dir: Path) -> None:
        self._jobs_dir = jobs_dir

    async def append(self, job: JobId, node_name: str, text: str) -> None:
        """Add text, until the log is full."""
        path = self._jobs_dir / job / "nodes" / f"{slug(node_name, what='node name')}.log"
        await asyncio.to_thread(_append, path, text)


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
