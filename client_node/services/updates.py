"""Updates kept at the node until their exchange is closed, so that no crash on either side loses or doubles one."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

from client_node.ports.state import PRIVATE, KeptState, KeptUpdate, Position, TaskState
from common.crypto.files import sync_folder
from common.errors import BadUpdate, QuotaExceeded
from common.failpoints import failpoint
from common.sandbox import check_memory
from common.tensors.content import ContentLimits, read_content
from common.units import CHUNK, MIB
from common.writeback import start_writing

_SLICE = 8 * MIB  # bytes after which the disk may begin
_PLAIN = ".update"
_WORTH_RECYCLING = MIB  # overwriting a file takes half the time of a fresh one


@dataclass
class Reply:
    """What an app answered: memory of its child, read here once and closed with ``close``."""

    content: int  # file descriptor
    state: int | None = None
    read: bool = False  # whether the app holds on to nothing of its instruction, so that the file may be overwritten

    def close(self) -> None:
        """Let go of the child's memory."""
        for fd in (self.content, self.state):
            if fd is not None:
                os.close(fd)
        self.content, self.state = -1, None


@dataclass(frozen=True)
class Written:
    """An update on its way to be kept: its files are there, and would be gone after a crash."""

    update: KeptUpdate
    state: KeptState | None


class KeptUpdates:
    """The files under ``updates/`` and the rows that name them."""

    def __init__(self, folder: Path, state: TaskState) -> None:
        self._folder = folder
        self._state = state
        self._free: dict[str, Path] = {}  # a job's last update that nobody needs: its next one overwrites it
        self._lock = threading.Lock()  # of ``_free``

    def sweep(self) -> None:
        """Remove files that no row names: what a crash left between writing and committing."""
        named = self._state.files()
        with self._lock:
            self._free.clear()
        self._remove(tuple(path.name for path in self._folder.iterdir() if path.name not in named))

    def held(self) -> tuple[KeptUpdate, ...]:
        """Return all kept updates."""
        return self._state.updates()

    def find(self, task: str, content: str) -> KeptUpdate | None:
        """Return the update kept for this very instruction, if there is one."""
        kept = self._state.update(task)
        return kept if kept is not None and kept.content == content else None

    def path(self, kept: KeptUpdate) -> Path:
        """Return where an update's bytes are."""
        return self._folder / kept.file

    def state_before(self, job: str, at: Position) -> KeptState | None:
        """Return the state that the task at ``at`` starts from; None = a fresh one."""
        return self._state.state_before(job, at)

    def state_path(self, kept: KeptState) -> Path | None:
        """Return where a state's bytes are; None: it had no records."""
        return self._folder / kept.file if kept.file else None

    def write(
        self, task: str, job: str, at: Position, content: str, reply: Reply, limit: int, *, private: bool = False
    ) -> Written:
        """Write a reply and the state it left; nothing is durable, and no row names it, before ``commit``.  Blocks.

        Args:
            task: The task it answers.
            job: The task's job.
            at: The task's place in it.
            content: Digest of the instruction that it answers.
            reply: The child's memory.
            limit: Largest size taken, bytes, of each of the two.
            private: Only a masked sum of it may leave the node.

        Raises:
            BadUpdate: it is no memory, or what it held is no object. QuotaExceeded: it is too large.
        """
        stem = f"{job}-{at.seq}-{at.slot}-{secrets.token_hex(4)}"
        before = self._state.state_before(job, at)
        name = f"{stem}{PRIVATE if private else _PLAIN}"
        target = self._folder / name
        with self._lock:
            if (free := self._free.pop(job, None)) is not None:
                free.rename(target)
        digest, size = copy_memory(reply.content, target, limit)
        _check_content(target, size)
        update = KeptUpdate(task, job, at, content, digest, size, name)
        state = None
        if reply.state is not None:
            _, state_size = copy_memory(reply.state, self._folder / f"{stem}.state", limit)
            state = KeptState(job, at, f"{stem}.state", state_size)
        elif before is not None and before.file:
            state = KeptState(job, at, "", 0)  # the app emptied its state; the older one must not come back
        return Written(update, state)

    def commit(self, written: Written) -> None:
        """Make an update and its state durable, together; blocks on the disk."""
        for file in (written.update.file, written.state.file if written.state else ""):
            if file:
                _sync(self._folder / file)
        sync_folder(self._folder)
        earlier = self._state.update(written.update.task)
        self._remove(self._state.keep(written.update, written.state, void_later=earlier is not None))
        failpoint("update_kept_before_upload")

    def close_exchange(self, job: str, seq: int, running: tuple[Position, ...]) -> None:
        """Forget an exchange's updates."""
        failpoint("closed_before_forget")
        names = self._state.close_exchange(job, seq, running)
        spare = next((name for name in names if self._recycled(job, name)), None)
        self._remove(tuple(name for name in names if name != spare))

    def drop_job(self, job: str) -> None:
        """Forget everything of a job."""
        with self._lock:
            if (free := self._free.pop(job, None)) is not None:
                free.unlink(missing_ok=True)
        self._remove(self._state.drop_job(job))

    def _recycled(self, job: str, name: str) -> bool:
        """Set an update's file aside for the job's next one; states are not: an app may map them still."""
        path = self._folder / name
        if path.suffix not in {_PLAIN, PRIVATE}:
            return False
        with self._lock:
            if job in self._free or not path.exists() or path.stat().st_size < _WORTH_RECYCLING:
                return False
            self._free[job] = path.rename(path.with_suffix(".free"))
        return True

    def _remove(self, names: tuple[str, ...]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)


def copy_memory(fd: int, target: Path, limit: int) -> tuple[str, int]:
    """Copy a memfd to ``target``, whatever that held before; return the digest and size of what was copied.

    The disk begins to write; only a sync makes the file durable.

    The memory is read once and never mapped: a child that changes or shortens it meanwhile spoils its own answer.

    Raises:
        BadUpdate: it is no memfd, or became shorter. QuotaExceeded: larger than ``limit``.
    """
    size = check_memory(fd)
    if size > limit:
        raise QuotaExceeded(f"the app's reply has {size} bytes, at most {limit} are taken")
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(CHUNK, size)))
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(out, min(size, os.fstat(out).st_size))
        at = begun = 0
        while at < size:
            part = buffer[: os.preadv(fd, [buffer[: min(len(buffer), size - at)]], at)]
            if not part:
                raise BadUpdate(f"the app's reply had {size} bytes and became shorter while it was read")
            digest.update(part)
            at += len(part)
            while part:
                part = part[os.write(out, part) :]
            if at - begun >= _SLICE:
                start_writing(out, begun, at - begun)
                begun = at
        start_writing(out, begun, size - begun)
    finally:
        os.close(out)
    return digest.hexdigest(), size


def _check_content(path: Path, size: int) -> None:
    """Refuse what no coordinator would take."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        read_content(fd, size, ContentLimits())
    finally:
        os.close(fd)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)
