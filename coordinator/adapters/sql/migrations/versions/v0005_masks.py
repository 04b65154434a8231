"""Masked sums: what is written down of one before survivors are proposed, and the least a federation accepts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns; exchanges and federations of before are plain."""
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.add_column("exchanges", sa.Column("masked", text, nullable=False, server_default=""))
    op.add_column("federations", sa.Column("minimum_mode", text, nullable=False, server_default="plain"))
