"""Masked sums in tables of the node's SQLite file."""

from __future__ import annotations

from client_node.adapters.state import SqliteState
from client_node.ports.masks import MaskedVector, Refusal

_REFUSALS = 10_000  # rows kept
_VECTOR = "task, job, seq, attempt, digest, size, file, record"


class SqliteMasks:
    """``MaskState`` beside what else the node remembers; a returned commit survives a power cut."""

    def __init__(self, state: SqliteState) -> None:
        self._state = state

    def put_vector(self, vector: MaskedVector) -> None:
        """Remember a masked vector."""
        values = (
            vector.task, vector.job, vector.seq, vector.attempt, vector.digest, vector.size, vector.file, vector.record,
        )  # fmt: skip
        with self._state.transaction() as db:
            db.execute("INSERT OR REPLACE INTO masked VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def vector(self, task: str) -> MaskedVector | None:
        """Return what was masked for a task."""
        rows = self._state.rows(f"SELECT {_VECTOR} FROM masked WHERE task = ?", (task,))  # noqa: S608 - fixed columns
        return MaskedVector(*rows[0]) if rows else None

    def vectors(self) -> tuple[MaskedVector, ...]:
        """Return all of them."""
        rows = self._state.rows(f"SELECT {_VECTOR} FROM masked ORDER BY task")  # noqa: S608 - fixed columns
        return tuple(MaskedVector(*row) for row in rows)

    def drop_vectors(self, job: str, seq: int | None = None) -> None:
        """Forget vectors, with the shares that were held for them."""
        with self._state.transaction() as db:
            if seq is None:
                db.execute("DELETE FROM masked WHERE job = ?", (job,))
            else:
                db.execute("DELETE FROM masked WHERE job = ? AND seq = ?", (job, seq))

    def sign_once(self, job: str, seq: int, statement: str, at: float) -> str:
        """Write down what is signed; return what is on record."""
        with self._state.transaction() as db:
            db.execute("INSERT OR IGNORE INTO signed VALUES (?, ?, ?, ?)", (job, seq, statement, at))
            (found,) = db.execute("SELECT statement FROM signed WHERE job = ? AND seq = ?", (job, seq)).fetchone()
        return str(found)

    def signed(self, job: str, seq: int) -> str:
        """Return what was signed for (job, seq)."""
        rows = self._state.rows("SELECT statement FROM signed WHERE job = ? AND seq = ?", (job, seq))
        return str(rows[0][0]) if rows else ""

    def put_refusal(self, refusal: Refusal) -> None:
        """Keep the newest refusals."""
        values = (refusal.at, refusal.job, refusal.task, refusal.code, refusal.message)
        with self._state.transaction() as db:
            db.execute("INSERT INTO refusals (at, job, task, code, message) VALUES (?, ?, ?, ?, ?)", values)
            db.execute("DELETE FROM refusals WHERE id <= (SELECT max(id) FROM refusals) - ?", (_REFUSALS,))

    def refusals(self, limit: int = 100) -> tuple[Refusal, ...]:
        """Return the newest refusals, newest first."""
        query = "SELECT at, job, task, code, message FROM refusals ORDER BY id DESC LIMIT ?"
        return tuple(Refusal(*row) for row in self._state.rows(query, (limit,)))
