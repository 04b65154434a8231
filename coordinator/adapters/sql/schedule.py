"""The scheduler's journal in tables: an event's kind says how its JSON is read.

Rows that were set aside have negative numbers; nothing reads or prunes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from common.errors import Corrupted
from coordinator.adapters.sql import tables as t
from coordinator.adapters.sql.codec import decoder, to_plain
from coordinator.adapters.sql.rows import Rows
from coordinator.scheduling.events import KINDS, Entry, Snapshot

_EVENTS, _COLUMNS = t.SCHEDULE_EVENTS, t.SCHEDULE_EVENTS.c
_SELECT = sa.select(_COLUMNS.seq, _COLUMNS.at_ms, _COLUMNS.turn, _COLUMNS.kind, _COLUMNS.event)
_SNAPSHOTS = Rows(t.SCHEDULE_SNAPSHOTS, Snapshot)


class SqlSchedule:
    """``coordinator.ports.store.Schedule`` in one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def append(self, entries: Sequence[Entry]) -> None:
        rows = [
            {
                "seq": entry.seq,
                "at_ms": entry.at_ms,
                "turn": entry.turn,
                "kind": entry.kind,
                "ask": entry.ask,
                "event": to_plain(entry.event),
            }
            for entry in entries
        ]
        if rows:
            self._connection.execute(sa.insert(_EVENTS), rows)

    def entries(self, after: int, limit: int = 1000) -> Sequence[Entry]:
        return self._read(_SELECT.where(_COLUMNS.seq > max(after, 0)).order_by(_COLUMNS.seq).limit(max(limit, 0)))

    def last(self) -> Entry | None:
        return next(iter(self._read(_SELECT.where(_COLUMNS.seq > 0).order_by(_COLUMNS.seq.desc()).limit(1))), None)

    def of_ask(self, ask: str) -> Sequence[Entry]:
        return self._read(_SELECT.where(_COLUMNS.ask == ask, _COLUMNS.seq > 0).order_by(_COLUMNS.seq))

    def put_snapshot(self, snapshot: Snapshot) -> None:
        _SNAPSHOTS.put(self._connection, snapshot)

    def snapshot(self, until: int | None = None) -> Snapshot | None:
        seq = t.SCHEDULE_SNAPSHOTS.c.seq
        query = _SNAPSHOTS.select().where(seq >= 0).order_by(seq.desc()).limit(1)
        return _SNAPSHOTS.one(self._connection, query if until is None else query.where(seq <= until))

    def set_aside(self) -> int:
        newest = 0
        for table in (_EVENTS, t.SCHEDULE_SNAPSHOTS):
            seq = table.c.seq
            newest = max(newest, self._connection.execute(sa.select(sa.func.max(seq))).scalar_one() or 0)
            self._connection.execute(sa.update(table).where(seq > 0).values(seq=-seq))
        return newest

    def prune(self, before: int) -> int:
        seq = t.SCHEDULE_SNAPSHOTS.c.seq
        base = self._connection.execute(sa.select(sa.func.max(seq)).where(seq >= 0, seq <= before)).scalar_one()
        if base is None:
            return 0
        self._connection.execute(sa.delete(t.SCHEDULE_SNAPSHOTS).where(seq >= 0, seq < base))
        gone = self._connection.execute(sa.delete(_EVENTS).where(_COLUMNS.seq > 0, _COLUMNS.seq <= base))
        return int(gone.rowcount)

    def _read(self, query: sa.Select[Any]) -> list[Entry]:
        return [_entry(*row) for row in self._connection.execute(query)]


def _entry(seq: int, at_ms: int, turn: int, kind: str, event: object) -> Entry:
    known: Any = KINDS.get(kind)
    if known is None:
        raise Corrupted(f"table schedule_events: row {seq} is a {kind[:40]!r}, which this release does not know")
    try:
        return Entry(seq, at_ms, turn, decoder(known)(event))
    except Corrupted as error:
        raise Corrupted(f"table schedule_events: row {seq}: {error.detail}") from error
