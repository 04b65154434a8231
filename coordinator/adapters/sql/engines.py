"""Database engines: SQLite or PostgreSQL, one to write with and one to read with, and what their errors mean."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from common.errors import BadInput, Conflict, Corrupted, PlatformError, QuotaExceeded, Unreachable
from coordinator.adapters.sql.codec import dumps, loads

BUSY_MS = 5000  # how long SQLite itself waits for another process's lock
READERS = 4

# Primary result codes of SQLite (sqlite.org/rescode.html) and SQLSTATEs of PostgreSQL (appendix A of its manual).
_SQLITE = {"busy": {5, 6}, "read_only": {8}, "io": {10, 14}, "corrupt": {11, 26}, "full": {13}}
_POSTGRES = {
    "busy": {"40001", "40P01", "55P03"},
    "read_only": {"25006"},
    "corrupt": {"XX001", "XX002"},
    "full": {"53100"},
    "refused": {"28000", "28P01", "3D000"},
}
_ERRORS = (
    ("busy", Unreachable, "is locked by another process"),
    ("read_only", BadInput, "may not be written here: it is read-only, or this is a read transaction"),
    ("io", Unreachable, "cannot be opened or read"),
    ("corrupt", Corrupted, "is damaged or no database"),
    ("full", QuotaExceeded, "has no room left on its disk"),
    ("refused", Unreachable, "refuses this user or has no such database"),
)


@dataclass(frozen=True)
class Engines:
    """Two engines over one database.  ``name`` is safe to print."""

    writer: sa.Engine
    reader: sa.Engine
    name: str

    def dispose(self) -> None:
        """Close every connection."""
        self.writer.dispose()
        self.reader.dispose()


def open_engines(url: str) -> Engines:
    """Return engines for ``url``: ``sqlite:///PATH``, a plain path, or ``postgresql://…``; nothing is asked yet.

    Raises:
        BadInput: another kind of address.
    """
    if "://" not in url:
        return _sqlite(Path(url))
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError as error:
        raise BadInput("the database address cannot be parsed; it must be postgresql://… or sqlite:///PATH") from error
    kind = parsed.get_backend_name()
    if kind == "sqlite" and parsed.database and parsed.database != ":memory:":
        return _sqlite(Path(parsed.database))
    if kind in {"postgresql", "postgres"}:
        return _postgres(parsed.set(drivername="postgresql+psycopg"))
    raise BadInput(f"a {kind} database is not supported; use postgresql://… or sqlite:///PATH (a file)")


def _sqlite(path: Path) -> Engines:
    try:
        # Hashed secrets live here; SQLite gives its -wal and -shm the permissions of the main file.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise Unreachable(f"the database {path} cannot be opened: {error.strerror}") from error
    writer = _sqlite_engine(path, begin="BEGIN IMMEDIATE", query_only=False, connections=1)
    reader = _sqlite_engine(path, begin="BEGIN", query_only=True, connections=READERS)
    return Engines(writer, reader, str(path))


def _sqlite_engine(path: Path, *, begin: str, query_only: bool, connections: int) -> sa.Engine:
    engine = sa.create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"check_same_thread": False, "isolation_level": None, "timeout": BUSY_MS / 1000},
        pool_size=connections,
        max_overflow=0,
        json_serializer=dumps,
        json_deserializer=loads,
    )

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: object) -> None:
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise BadInput(f"{path} is on a file system without shared memory (journal mode {mode}); use a local disk")
        connection.execute("PRAGMA synchronous=FULL")  # a commit is on the disk before it returns
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute(f"PRAGMA query_only={int(query_only)}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgres(url: URL) -> Engines:
    common: dict[str, Any] = {
        "isolation_level": "SERIALIZABLE",
        "connect_args": {"connect_timeout": 10, "keepalives_idle": 30, "application_name": "hansa"},
        "max_overflow": 0,
        "json_serializer": dumps,
        "json_deserializer": loads,
    }
    writer = sa.create_engine(url, pool_size=1, **common)
    reader = sa.create_engine(url, pool_size=READERS, execution_options={"postgresql_readonly": True}, **common)

    @sa.event.listens_for(writer, "connect")
    def _prepare(connection: Any, _: object) -> None:  # noqa: ANN401 - psycopg's own type
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            if cursor.fetchone()[0] == "off":  # what was acknowledged must survive the server's crash
                cursor.execute("SET synchronous_commit = on")
            cursor.execute("SET lock_timeout = '10s'")
        connection.commit()

    return Engines(writer, reader, url.render_as_string(hide_password=True))


def fault(error: sa.exc.DBAPIError) -> str:
    """Return what went wrong in one word of ``_ERRORS``, "lost" for a dead connection, "" for anything else."""
    original = error.orig
    if isinstance(original, sqlite3.Error):
        code = getattr(original, "sqlite_errorcode", 0) & 0xFF
        return next((word for word, codes in _SQLITE.items() if code in codes), "")
    state = getattr(original, "sqlstate", None)
    if state is None or error.connection_invalidated or state.startswith(("08", "57P")):
        return "lost" if isinstance(error, sa.exc.OperationalError) else ""
    return next((word for word, states in _POSTGRES.items() if state in states), "")


def translate(error: sa.exc.DBAPIError, name: str) -> PlatformError:
    """Return our error for the driver's; the caller raises it ``from`` the original."""
    word = fault(error)
    for known, leaf, sentence in _ERRORS:
        if word == known:
            return leaf(f"the database {name} {sentence}: {_first_line(error)}")
    if word == "lost":
        return Unreachable(f"the database {name} cannot be reached: {_first_line(error)}")
    if isinstance(error, sa.exc.IntegrityError) and _is_duplicate(error):
        return Conflict(f"it exists already: {_first_line(error)}")
    if isinstance(error, (sa.exc.IntegrityError, sa.exc.DataError)):
        return BadInput(f"the database cannot hold this value: {_first_line(error)}")
    return Corrupted(f"the database {name} does not answer as it should: {_first_line(error)}")


def _is_duplicate(error: sa.exc.IntegrityError) -> bool:
    original = error.orig
    if isinstance(original, sqlite3.Error):
        return original.sqlite_errorname in {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"}
    return getattr(original, "sqlstate", "") == "23505"


def _first_line(error: sa.exc.DBAPIError) -> str:
    # Only the first line: the rest may quote the row, and rows hold what other tenants own.
    return (str(error.orig).splitlines() or [""])[0][:200]
