"""The scheduler's journal: what happened and was decided, and snapshots in between."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables; the journal begins empty."""
    op.create_table(
        "schedule_events",
        _int("seq"),
        _int("at_ms"),
        _int("turn"),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("ask", _TEXT, nullable=False),
        sa.Column("event", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("schedule_events_ask", "schedule_events", ["ask", "seq"])
    op.create_table(
        "schedule_snapshots",
        _int("seq"),
        _int("at_ms"),
        sa.Column("state", sa.JSON, nullable=False),
        sa.Column("learned", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )


def _int(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger, nullable=False, autoincrement=False)
