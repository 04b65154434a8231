"""What the node remembers, and the records it remembers.

Guarantees of a ``NodeState``: (1) a method that returned has been written durably; (2) each method is one transaction;
(3) it may be called from any thread, and other processes (the commands) may write at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

PRIVATE = ".private"  # ending of the file of an update that is only ever sent masked


class Position(NamedTuple):
    """Where a task stands in its job: exchange and message; tuples order as the job does."""

    seq: int
    slot: int


@dataclass(frozen=True)
class Column:
    """One column of a dataset: its name, and bool, int, float, string or a Parquet type."""

    name: str
    type: str


@dataclass(frozen=True)
class Dataset:
    """A file that stays where it is; only these facts about it are kept."""

    name: str
    path: str
    format: str  # "csv" | "parquet"
    rows: int
    digest: str
    size: int  # bytes
    mtime_ns: int  # with size: a cheap sign that the file is still the same
    columns: tuple[Column, ...]
    added: float
    federations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Approval:
    """The steward lets this app (by digest) see what is shared into this federation."""

    federation: str
    app_digest: str
    at: float
    name: str = ""


@dataclass(frozen=True)
class KeptUpdate:
    """A reply kept at the node until its exchange is closed."""

    task: str
    job: str
    position: Position
    content: str  # digest of the instruction that it answers
    digest: str
    size: int
    file: str  # name under updates/

    @property
    def private(self) -> bool:
        """Say whether it must not leave the node as it is."""
        return self.file.endswith(PRIVATE)


@dataclass(frozen=True)
class KeptState:
    """The app's ``context.state`` as it was after the task at ``position``; ``file`` is empty if it had no records."""

    job: str
    position: Position
    file: str
    size: int


class Catalogue(Protocol):
    """Datasets, approvals: what people decide at this node."""

    def put_dataset(self, dataset: Dataset, *, replace: bool) -> None:
        """Register; shares of a replaced dataset stay. Raises Conflict: the name is taken and not ``replace``."""
        ...

    def drop_dataset(self, name: str) -> None:
        """Forget a dataset and its shares. Raises NotFound."""
        ...

    def datasets(self) -> tuple[Dataset, ...]: ...
    def share(self, name: str, federation: str) -> None:
        """Share a dataset into a federation; again is no error. Raises NotFound."""
        ...

    def unshare(self, name: str, federation: str) -> None:
        """Take a share back. Raises NotFound: it was not shared there."""
        ...

    def approve(self, approval: Approval) -> None: ...
    def revoke(self, federation: str, app_digest: str) -> None:
        """Take an approval back. Raises NotFound."""
        ...

    def approvals(self) -> tuple[Approval, ...]: ...


class TaskState(Protocol):
    """Jobs prepared here, the updates kept for them, and their apps' states."""

    def put_job(self, job: str, prepare: bytes) -> None: ...
    def job(self, job: str) -> bytes | None: ...
    def jobs(self) -> tuple[str, ...]: ...
    def drop_job(self, job: str) -> tuple[str, ...]:
        """Forget a job with its updates and states; return the files that nobody names any more."""
        ...

    def keep(self, update: KeptUpdate, state: KeptState | None, *, void_later: bool) -> tuple[str, ...]:
        """Keep an update together with the state it left.

        Args:
            update: Replaces the one kept for the same task.
            state: None if the app keeps no state.
            void_later: The task was run anew, so states of later tasks never happened.

        Returns:
            The files that nobody names any more.
        """
        ...

    def update(self, task: str) -> KeptUpdate | None: ...
    def updates(self) -> tuple[KeptUpdate, ...]: ...
    def state_before(self, job: str, position: Position) -> KeptState | None:
        """Return the newest state of a task before ``position``."""
        ...

    def close_exchange(self, job: str, seq: int, running: tuple[Position, ...]) -> tuple[str, ...]:
        """Forget the updates of an exchange, and the states that no open task can need.

        Args:
            job: The job.
            seq: The exchange.
            running: Tasks of the job that run now; they may have to run again from the state before them.

        Returns:
            The files that nobody names any more.
        """
        ...

    def files(self) -> frozenset[str]:
        """Return every file under updates/ that is named by a row."""
        ...
