"""Quotas: what sites give tenants, what each may use at the coordinator, and what it has stored there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables, and book the apps that are there already."""
    op.create_table(
        "grants",
        *_key(_text("site"), _text("tenant")),
        sa.Column("guarantee", sa.JSON, nullable=False),
        sa.Column("limit", sa.JSON, nullable=False),
        _int("weight"),
        *_written(),
    )
    op.create_index("grants_tenant", "grants", ["tenant"])
    op.create_table(
        "allowances",
        *_key(_text("tenant")),
        *(_int(name) for name in ("running_jobs", "queued_jobs", "stored_bytes")),
        *_written(),
    )
    op.create_table("stored", *_key(_text("tenant"), _text("digest")), _int("size"))
    op.create_table("stored_totals", *_key(_text("tenant")), _int("bytes"))
    op.create_index("jobs_tenant_state", "jobs", ["tenant", "state"])
    op.execute("INSERT INTO stored SELECT DISTINCT tenant, bundle, size FROM apps")
    op.execute("INSERT INTO stored_totals SELECT tenant, SUM(size) FROM stored GROUP BY tenant")


def _written() -> list[sa.Column[object]]:
    return [_int("generation"), _text("set_by"), sa.Column("set_at", sa.Double, nullable=False)]


def _key(*columns: sa.Column[object]) -> list[sa.schema.SchemaItem]:
    return [*columns, sa.PrimaryKeyConstraint(*(column.name for column in columns))]


def _text(name: str) -> sa.Column[object]:
    return sa.Column(name, _TEXT, nullable=False)


def _int(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger, nullable=False, autoincrement=False)
