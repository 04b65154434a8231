"""What was submitted under an idempotency key, so that the key cannot name two things."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the request's digest; keys of before have none and match any request."""
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.add_column("submission_keys", sa.Column("request", text, nullable=True))
