"""Replay: the n-th call of the app is answered as it was answered before, up to the live frontier.

Calls are matched by number, kind, fold and the list of (slot, node, type).  Anything else is a divergence: the app does
not do the same again, and a guess would train something nobody asked for.

A pull that returned nothing is not journalled (an app may poll for hours), so a pull where the journal goes on with
something else is answered with nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from common.errors import AppFailed
from common.ids import JobId, NodeId, task_id
from coordinator.domain.exchanges import Exchange, ExchangeKind, Instruction, Reply
from coordinator.services.calls import Call


class Journal:
    """The rows of one job, and how far the app has come in them."""

    def __init__(self, job: JobId, rows: Iterable[Exchange]) -> None:
        self._job = job
        known = list(rows)
        self._rows = sorted((r for r in known if _answered(r)), key=lambda r: r.seq)
        self._masked = {r.seq: r.masked for r in known if not _answered(r) and r.masked}
        self._at = 0

    @property
    def seq(self) -> int:
        """Return the number of the app's next call."""
        return self._rows[self._at].seq if self._at < len(self._rows) else self._behind()

    @property
    def live(self) -> bool:
        """Say whether the app has left what is recorded behind."""
        return self._at >= len(self._rows)

    @property
    def length(self) -> int:
        """Return how many answered calls are recorded."""
        return len(self._rows)

    @property
    def last_included(self) -> int:
        """Return how many updates went into the newest fold; 0 = none was folded."""
        return next((len(r.included) for r in reversed(self._rows) if r.included), 0)

    @property
    def trains(self) -> int:
        """Return how many exchanges of train messages the app has had answered."""
        done = self._rows[: self._at]
        return sum(1 for r in done if r.messages and r.messages[0].message_type.startswith("train"))

    @property
    def masked(self) -> str:
        """Return what was written down of the next exchange's masked sum, "" if nothing was."""
        return self._masked.get(self.seq, "") if self.live else ""

    @property
    def rows(self) -> Sequence[Exchange]:
        """Return what is recorded."""
        return tuple(self._rows)

    def recorded(self, call: Call) -> Exchange | None:
        """Return the recorded answer to an exchange or push, None at the frontier.

        Raises:
            AppFailed: the app diverged.
        """
        if self.live:
            return None
        row = self._rows[self._at]
        if (row.kind, row.fold, _asked(row.messages)) != (call.kind, call.fold, _asked(call.instructions)):
            raise _diverged(row, f"{call.kind} of {len(call.instructions)} {call.message_type} messages")
        self._at += 1
        return row

    def recorded_pull(self, ids: Sequence[str]) -> Exchange | None:
        """Return the recorded answer to a pull; None: nothing had come then, or this is the frontier.

        Raises:
            AppFailed: the app diverged.
        """
        if self.live or self._rows[self._at].kind is not ExchangeKind.PULL:
            return None
        row = self._rows[self._at]
        if not {self.pull_id(reply) for reply in row.replies} <= set(ids):
            raise _diverged(row, "pull of other messages")
        self._at += 1
        return row

    def pulled(self) -> set[str]:
        """Return the ids of all pushed messages whose replies were given to the app."""
        return {self.pull_id(r) for row in self._rows if row.kind is ExchangeKind.PULL for r in row.replies}

    def append(self, row: Exchange) -> None:
        """Take a row that was committed just now."""
        self._rows.append(row)
        self._at = len(self._rows)

    def rewind(self) -> None:
        """The app starts again."""
        self._at = 0

    def pull_id(self, reply: Reply) -> str:
        """Return the id of the message that a pulled reply answers."""
        return task_id(self._job, reply.push_seq or 0, reply.slot)

    def _behind(self) -> int:
        return self._rows[-1].seq + 1 if self._rows else 1


def _answered(row: Exchange) -> bool:
    return row.closed_at is not None or row.kind is ExchangeKind.PUSH


def _asked(messages: Sequence[Instruction]) -> list[tuple[int, NodeId, str]]:
    return [(m.slot, m.node, m.message_type) for m in messages]


def _diverged(row: Exchange, got: str) -> AppFailed:
    what = f"{row.kind} of {len(row.messages)} messages" if row.messages else str(row.kind)
    return AppFailed(
        f"after a restart the app's call {row.seq} was a {got}, before it was a {what} of round {row.round}",
        reason="diverged",
        next_step="make the ServerApp deterministic: take random numbers from random, numpy or torch, which are seeded",
    )
