"""Records as rows: one mapping for every table, by field name."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from common.errors import Corrupted
from coordinator.adapters.sql.codec import decoder, to_plain

R = TypeVar("R")


class Rows(Generic[R]):
    """The rows of one table as records of one class.

    Args:
        table: Its columns are named after the fields of ``record``.
        record: A frozen dataclass.
    """

    def __init__(self, table: sa.Table, record: type[R]) -> None:
        hints = typing.get_type_hints(record)
        self.table = table
        self._record = record
        self._names = [f.name for f in dataclasses.fields(record)]  # type: ignore[arg-type]
        self._readers = [(name, decoder(hints[name])) for name in self._names]
        self._key = [c.name for c in table.primary_key]
        self._columns = [table.c[name] for name in self._names]

    def values(self, record: R) -> dict[str, Any]:
        """Return the columns' values for ``record``."""
        return {name: to_plain(getattr(record, name)) for name in self._names}

    def read(self, row: Sequence[Any]) -> R:
        """Return the record of a row of ``select()``.

        Raises:
            Corrupted: a value is not what its field may hold.
        """
        try:
            return self._record(**{name: read(value) for (name, read), value in zip(self._readers, row, strict=True)})
        except Corrupted as error:
            raise Corrupted(f"table {self.table.name}: {error.detail}") from error

    def select(self) -> sa.Select[Any]:
        """Return the query of all rows, columns in the order ``read`` wants."""
        return sa.select(*self._columns)

    def one(self, connection: sa.Connection, query: sa.Select[Any]) -> R | None:
        """Return the only row of ``query`` as a record, None if there is none."""
        row = connection.execute(query).first()
        return None if row is None else self.read(row)

    def all(self, connection: sa.Connection, query: sa.Select[Any]) -> list[R]:
        """Return the rows of ``query`` as records."""
        return [self.read(row) for row in connection.execute(query)]

    def insert(self, connection: sa.Connection, record: R) -> None:
        """Insert ``record``."""
        connection.execute(sa.insert(self.table), self.values(record))

    def put(self, connection: sa.Connection, record: R) -> None:
        """Insert ``record`` or replace the row with its primary key."""
        upsert(connection, self.table, self.values(record), self._key)

    def add_if_new(self, connection: sa.Connection, record: R) -> bool:
        """Insert ``record`` unless its primary key is there; return whether it was inserted."""
        return insert_if_new(connection, self.table, self.values(record))


def insert_if_new(connection: sa.Connection, table: sa.Table, values: dict[str, Any]) -> bool:
    """Insert ``values`` unless the primary key is there; return whether they were inserted."""
    keys = [c.name for c in table.primary_key]
    statement = _insert(connection, table).on_conflict_do_nothing(index_elements=keys)
    return connection.execute(statement.returning(table.c[keys[0]]), values).first() is not None


def upsert(connection: sa.Connection, table: sa.Table, values: dict[str, Any], key: Iterable[str]) -> None:
    """Insert ``values``, or replace the row whose ``key`` columns are equal."""
    keys = list(key)
    statement = _insert(connection, table)
    new = {name: statement.excluded[name] for name in values if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=new), values)


def _insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    # The two dialects' upserts are spelt alike; there is no common one in SQLAlchemy.
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)
