"""The lease log, a table of the node's SQLite file.

A round is too short to wait for the disk twice more.  So a lease is not synced by itself, but with the update that is
kept under it, at the latest: what a power cut can take from the log is leases that left nothing else behind either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

from client_node.adapters.state import SqliteState
from client_node.guard.leases import Lease, Slice
from client_node.guard.service import HELD, INTERRUPTED, LeaseEntry


class SqliteLeaseLog:
    """``LeaseLog`` beside what else the node remembers."""

    def __init__(self, state: SqliteState) -> None:
        self._state = state

    def begin(self, key: str, lease: Lease, now: float, enforcement: tuple[str, ...]) -> None:
        """Write that a lease is held."""
        slices = json.dumps([astuple(part) for part in lease.slices])
        values = (
            key, lease.id, lease.task, lease.job, lease.tenant, slices, lease.cpu_milli, lease.ram_mib, now, now, HELD,
            json.dumps(enforcement),
        )  # fmt: skip
        with self._state.transaction(synced=False) as db:
            db.execute("INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, 0)", values)

    def still_held(self, held: Mapping[str, tuple[float, float]]) -> None:
        """Write how long leases have been held."""
        with self._state.transaction(synced=False) as db:
            rows = [(*times, key, HELD) for key, times in held.items()]
            db.executemany("UPDATE leases SET seen = ?, held_s = ? WHERE key = ? AND outcome = ?", rows)

    def end(self, key: str, entry: LeaseEntry) -> None:
        """Write how a lease ended."""
        values = (entry.seen, entry.held_s, entry.outcome, json.dumps(entry.enforcement), entry.peak_mib, key)
        with self._state.transaction(synced=False) as db:
            change = "UPDATE leases SET seen = ?, held_s = ?, outcome = ?, enforcement = ?, peak_mib = ? WHERE key = ?"
            db.execute(change, values)

    def interrupt(self) -> int:
        """End what is written as held."""
        with self._state.transaction(synced=False) as db:
            return db.execute("UPDATE leases SET outcome = ? WHERE outcome = ?", (INTERRUPTED, HELD)).rowcount

    def entries(self, since: float = 0.0) -> tuple[LeaseEntry, ...]:
        """Return the leases that were held after ``since``, oldest first."""
        rows = self._state.rows(
            "SELECT lease, task, job, tenant, slices, cpu_milli, ram_mib, start, seen, held_s, outcome, enforcement,"
            " peak_mib FROM leases WHERE seen > ? OR outcome = ? ORDER BY start, rowid",
            (since, HELD),
        )
        return tuple(_entry(row) for row in rows)

    def forget(self, before: float) -> None:
        """Drop leases that ended before a time."""
        with self._state.transaction(synced=False) as db:
            db.execute("DELETE FROM leases WHERE seen < ? AND outcome <> ?", (before, HELD))


def _entry(row: Any) -> LeaseEntry:  # noqa: ANN401 - a row of sqlite3 has no type
    lease, task, job, tenant, slices, cpu_milli, ram_mib, start, seen, held_s, outcome, enforcement, peak_mib = row
    parts = tuple(Slice(*part) for part in json.loads(slices))
    what = Lease(lease, task, job, tenant, parts, cpu_milli, ram_mib)
    return LeaseEntry(what, start, seen, held_s, outcome, tuple(json.loads(enforcement)), peak_mib)
