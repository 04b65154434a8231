"""The instructions of one job at this node: fetched, kept as long as another may rest on them, and written over.

What an instruction rests on (``common.child.frames``) is fetched once, however many instructions rest on it.  A file
that the app has done with is overwritten by the next one; a file that it may still read is never touched again.
Nothing here outlives the agent: files were checked when they came, not since.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client_node.ports.link import Link
from common.units import MIB
from common.wire import hansa_node_pb2 as pb

_WORTH_RECYCLING = MIB


@dataclass(frozen=True)
class Fetched:
    """An instruction on this node's disk."""

    path: Path
    base: Path | None = None  # what it rests on


class Instructions:
    """The folder of one job.  One instruction at a time; the caller holds the order."""

    def __init__(self, folder: Path) -> None:
        """Take over ``folder``; what an earlier agent fetched is not trusted."""
        self._folder, self._spare = folder, folder / "spare"
        self._base: Path | None = None
        self._read = True  # whether the app holds on to nothing of the base
        for path in folder.glob("*.base"):
            path.unlink()

    async def fetch(self, link: Link, offer: pb.TaskOffer) -> Fetched:
        """Fetch the instruction of ``offer`` and what it rests on; raises as ``Link.download``."""
        path = self._folder / f"{offer.content.digest}.in"
        if not offer.HasField("base"):
            await link.download(offer.content, path, job=offer.job, over=self._spare)
            return Fetched(path)
        await link.download(offer.content, path, job=offer.job)
        base = self._folder / f"{offer.base.digest}.base"
        if self._base != base:
            self._retire()
            await link.download(offer.base, base, job=offer.job, over=self._spare)
            self._base, self._read = base, True
        return Fetched(path, base)

    def done(self, fetched: Fetched, *, read: bool) -> None:
        """Let an instruction go; ``read`` says whether the app holds on to nothing of it."""
        if fetched.base is not None:
            self._read = self._read and read
            fetched.path.unlink(missing_ok=True)
        else:
            self._recycle(fetched.path, read=read)

    def _retire(self) -> None:
        if self._base is not None:
            self._recycle(self._base, read=self._read)
            self._base = None

    def _recycle(self, path: Path, *, read: bool) -> None:
        if read and path.exists() and path.stat().st_size >= _WORTH_RECYCLING:
            path.replace(self._spare)
        else:
            path.unlink(missing_ok=True)
