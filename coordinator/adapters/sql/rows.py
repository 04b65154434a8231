"""Records as rows: one mapping for every table, by field name."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from functools import cache
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

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
        self._select = sa.select(*(table.c[name] for name in self._names))

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
        return self._select

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
        connection.execute(_upsert(self.table, connection.dialect.name), self.values(record))

    def add_if_new(self, connection: sa.Connection, record: R) -> bool:
        """Insert ``record`` unless its primary key is there; return whether it was inserted."""
        return insert_if_new(connection, self.table, self.values(record))


def insert_if_new(connection: sa.Connection, table: sa.Table, values: dict[str, Any]) -> bool:
    """Insert ``values`` unless the primary key is there; return whether they were inserted."""
    return connection.execute(_insert_if_new(table, connection.dialect.name), values).first() is not None


@cache  # building one takes longer than running it
def _insert_if_new(table: sa.Table, dialect: str) -> ReturningInsert[Any]:
    key = list(table.primary_key)
    return _insert(table, dialect).on_conflict_do_nothing(index_elements=key).returning(key[0])


@cache
def _upsert(table: sa.Table, dialect: str) -> sa.Insert:
    statement = _insert(table, dialect)
    key = list(table.primary_key)
    new = {c.name: statement.excluded[c.name] for c in table.c if not c.primary_key}
    return statement.on_conflict_do_update(index_elements=key, set_=new)


def _insert(table: sa.Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    # The two dialects' upserts are spelt alike; there is no common one in SQLAlchemy.
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
