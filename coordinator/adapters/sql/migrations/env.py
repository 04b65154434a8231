"""Run migrations on the connection that the caller opened; its transaction is theirs."""

from __future__ import annotations

from alembic import context

from coordinator.adapters.sql.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
    render_as_batch=True,  # SQLite cannot alter a column in place
)
with context.begin_transaction():
    context.run_migrations()
