"""The node's memory in one SQLite file.

WAL with ``synchronous=FULL``: a returned commit survives a power cut.  One connection a process behind a lock; the
commands open the same file from their own process, which SQLite allows.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from client_node.ports.state import Approval, Column, Dataset, KeptState, KeptUpdate, Position
from common.errors import Conflict, NotFound

SCHEMA_VERSION = 3
_BUSY_S = 10.0
_UPDATE = "task, job, seq, slot, content, digest, size, file"


class SqliteState:
    """``Catalogue`` and ``TaskState`` over ``node.sqlite``."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA foreign_keys=ON")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            self._db.close()
            raise Conflict(f"{path} was written by a newer release (schema {version}, this one knows {SCHEMA_VERSION})")
        if version < SCHEMA_VERSION:
            self._db.executescript((Path(__file__).parent / "schema.sql").read_text())
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        path.chmod(0o600)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    # ---- datasets and approvals -------------------------------------------------------------------------------------

    def put_dataset(self, dataset: Dataset, *, replace: bool) -> None:
        """Register a dataset; shares of a replaced one stay."""
        columns = json.dumps([[column.name, column.type] for column in dataset.columns])
        values = (
            dataset.name, dataset.path, dataset.format, dataset.rows, dataset.digest, dataset.size, dataset.mtime_ns,
            columns, dataset.added,
        )  # fmt: skip
        with self.transaction() as db:
            if not replace and db.execute("SELECT 1 FROM datasets WHERE name = ?", (dataset.name,)).fetchone():
                raise Conflict(
                    f"a dataset named {dataset.name!r} is registered already",
                    next_step=f"choose another name, or: hansa node dataset add {dataset.name} PATH --replace",
                )
            db.execute(
                "INSERT INTO datasets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
                " path = excluded.path, format = excluded.format, rows = excluded.rows, digest = excluded.digest,"
                " size = excluded.size, mtime_ns = excluded.mtime_ns, columns = excluded.columns,"
                " added = excluded.added",
                values,
            )

    def drop_dataset(self, name: str) -> None:
        """Forget a dataset and its shares; the file is not touched."""
        with self.transaction() as db:
            if db.execute("DELETE FROM datasets WHERE name = ?", (name,)).rowcount == 0:
                raise _no_dataset(name)

    def datasets(self) -> tuple[Dataset, ...]:
        """Return all datasets, by name."""
        shares: dict[str, list[str]] = {}
        for name, federation in self.rows("SELECT dataset, federation FROM shares ORDER BY dataset, federation"):
            shares.setdefault(name, []).append(federation)
        rows = self.rows(
            "SELECT name, path, format, rows, digest, size, mtime_ns, columns, added FROM datasets ORDER BY name"
        )
        return tuple(_dataset(row, tuple(shares.get(row[0], ()))) for row in rows)

    def share(self, name: str, federation: str) -> None:
        """Share a dataset into a federation."""
        with self.transaction() as db:
            if not db.execute("SELECT 1 FROM datasets WHERE name = ?", (name,)).fetchone():
                raise _no_dataset(name)
            db.execute("INSERT OR IGNORE INTO shares VALUES (?, ?)", (name, federation))

    def unshare(self, name: str, federation: str) -> None:
        """Take a share back."""
        with self.transaction() as db:
            gone = db.execute("DELETE FROM shares WHERE dataset = ? AND federation = ?", (name, federation)).rowcount
            if gone == 0:
                raise NotFound(f"dataset {name!r} is not shared into federation {federation!r}")

    def approve(self, approval: Approval) -> None:
        """Approve an app for a federation; again is no error."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO approvals VALUES (?, ?, ?, ?)",
                (approval.federation, approval.app_digest, approval.name, approval.at),
            )

    def revoke(self, federation: str, app_digest: str) -> None:
        """Take an approval back."""
        with self.transaction() as db:
            statement = "DELETE FROM approvals WHERE federation = ? AND app_digest = ?"
            if db.execute(statement, (federation, app_digest)).rowcount == 0:
                raise NotFound(f"app {app_digest[:12]}… is not approved for federation {federation!r}")

    def approvals(self) -> tuple[Approval, ...]:
        """Return all approvals, by federation and digest."""
        rows = self.rows("SELECT federation, app_digest, at, name FROM approvals ORDER BY federation, app_digest")
        return tuple(Approval(*row) for row in rows)

    # ---- jobs, updates, states --------------------------------------------------------------------------------------

    def put_job(self, job: str, prepare: bytes) -> None:
        """Remember what was agreed for a job, so that its tasks run after a restart too."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?)", (job, prepare))

    def job(self, job: str) -> bytes | None:
        """Return what was remembered of a job."""
        rows = self.rows("SELECT prepare FROM jobs WHERE job = ?", (job,))
        return bytes(rows[0][0]) if rows else None

    def jobs(self) -> tuple[str, ...]:
        """Return every job that anything is remembered of."""
        rows = self.rows("SELECT job FROM jobs UNION SELECT job FROM updates UNION SELECT job FROM states ORDER BY 1")
        return tuple(row[0] for row in rows)

    def drop_job(self, job: str) -> tuple[str, ...]:
        """Forget a job with its updates and states."""
        with self.transaction() as db:
            gone = _files(db, "SELECT file FROM updates WHERE job = ?", (job,))
            gone += _files(db, "SELECT file FROM states WHERE job = ?", (job,))
            for table in ("jobs", "updates", "states"):
                db.execute(f"DELETE FROM {table} WHERE job = ?", (job,))  # noqa: S608 - three fixed names
        return gone

    def keep(self, update: KeptUpdate, state: KeptState | None, *, void_later: bool) -> tuple[str, ...]:
        """Keep an update together with the state that it left, in one transaction."""
        at = (update.job, *update.position)
        with self.transaction() as db:
            gone = _files(db, "SELECT file FROM updates WHERE task = ?", (update.task,))
            values = (update.task, *at, update.content, update.digest, update.size, update.file)
            db.execute("INSERT OR REPLACE INTO updates VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            which = "job = ? AND (seq, slot) >= (?, ?)" if void_later else "job = ? AND (seq, slot) = (?, ?)"
            gone += _files(db, f"SELECT file FROM states WHERE {which}", at)  # noqa: S608 - two fixed clauses
            db.execute(f"DELETE FROM states WHERE {which}", at)  # noqa: S608 - two fixed clauses
            if state is not None:
                row = (state.job, *state.position, state.file, state.size)
                db.execute("INSERT INTO states VALUES (?, ?, ?, ?, ?)", row)
        return gone

    def update(self, task: str) -> KeptUpdate | None:
        """Return the update kept for a task."""
        rows = self.rows(f"SELECT {_UPDATE} FROM updates WHERE task = ?", (task,))  # noqa: S608 - fixed columns
        return _update(rows[0]) if rows else None

    def updates(self) -> tuple[KeptUpdate, ...]:
        """Return all kept updates, in the order of their jobs."""
        rows = self.rows(f"SELECT {_UPDATE} FROM updates ORDER BY job, seq, slot")  # noqa: S608 - fixed columns
        return tuple(_update(row) for row in rows)

    def state_before(self, job: str, position: Position) -> KeptState | None:
        """Return the newest state of a task before ``position``."""
        rows = self.rows(
            "SELECT job, seq, slot, file, size FROM states WHERE job = ? AND (seq, slot) < (?, ?)"
            " ORDER BY seq DESC, slot DESC LIMIT 1",
            (job, *position),
        )
        return KeptState(rows[0][0], Position(rows[0][1], rows[0][2]), rows[0][3], rows[0][4]) if rows else None

    def close_exchange(self, job: str, seq: int, running: tuple[Position, ...]) -> tuple[str, ...]:
        """Forget an exchange's updates and the states that no open task can need."""
        with self.transaction() as db:
            gone = _files(db, "SELECT file FROM updates WHERE job = ? AND seq = ?", (job, seq))
            db.execute("DELETE FROM updates WHERE job = ? AND seq = ?", (job, seq))
            rows = db.execute("SELECT seq, slot FROM updates WHERE job = ?", (job,)).fetchall()
            still_open = [*(Position(*row) for row in rows), *(at for at in running if at.seq != seq)]
            # the state to start from again is the newest one before the oldest task that is still open
            before = min(still_open, default=Position(seq + 1, 0))
            base = db.execute(
                "SELECT seq, slot FROM states WHERE job = ? AND (seq, slot) < (?, ?) ORDER BY seq DESC, slot DESC",
                (job, *before),
            ).fetchone()
            if base is not None:
                gone += _files(db, "SELECT file FROM states WHERE job = ? AND (seq, slot) < (?, ?)", (job, *base))
                db.execute("DELETE FROM states WHERE job = ? AND (seq, slot) < (?, ?)", (job, *base))
        return gone

    def files(self) -> frozenset[str]:
        """Return every file that a row names."""
        rows = self.rows("SELECT file FROM updates UNION SELECT file FROM states")
        return frozenset(row[0] for row in rows if row[0])

    # ---- access -----------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        """Give the connection for writes that are kept together or not at all.

        Args:
            synced: Whether they must survive a power cut by themselves.  What is not synced survives the end of this
                process, and a power cut from the next synced transaction on, since the log is written in one order.
        """
        with self._lock:
            self._db.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, query: str, values: Iterable[Any] = ()) -> list[Any]:
        """Return what a query finds."""
        with self._lock:
            return self._db.execute(query, tuple(values)).fetchall()


def _files(db: sqlite3.Connection, query: str, values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(row[0] for row in db.execute(query, tuple(values)) if row[0])


def _dataset(row: Any, federations: tuple[str, ...]) -> Dataset:  # noqa: ANN401 - a row of sqlite3 has no type
    name, path, table_format, rows, digest, size, mtime_ns, columns, added = row
    shape = tuple(Column(*column) for column in json.loads(columns))
    return Dataset(name, path, table_format, rows, digest, size, mtime_ns, shape, added, federations)


def _update(row: Any) -> KeptUpdate:  # noqa: ANN401 - a row of sqlite3 has no type
    task, job, seq, slot, content, digest, size, file = row
    return KeptUpdate(task, job, Position(seq, slot), content, digest, size, file)


def _no_dataset(name: str) -> NotFound:
    return NotFound(f"no dataset is named {name!r} at this node", next_step="hansa node dataset ls")
