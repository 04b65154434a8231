"""Bring a database to this release's schema at start, or say why that cannot be."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from common.errors import VersionMismatch

_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = 0x68616E7361  # "hansa": the advisory lock under which PostgreSQL is migrated


def upgrade(engine: sa.Engine, to: str = "head") -> None:
    """Run the migrations this database lacks, all in one transaction.

    Args:
        engine: Of the database.
        to: The revision to stop at.

    Raises:
        VersionMismatch: a newer release has written this database.
    """
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            # Not serialisable: its snapshot would be older than the lock, and the other's migration unseen.
            connection.execution_options(isolation_level="READ COMMITTED")
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            _upgrade(connection, to)


def _upgrade(connection: sa.Connection, to: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    found = MigrationContext.configure(connection).get_current_heads()
    if found == (head,):
        return
    known = {script.revision for script in scripts.walk_revisions()}
    unknown = sorted(set(found) - known)
    if unknown:
        raise VersionMismatch(
            f"the database has schema {', '.join(unknown)}, newer than this release knows ({head})",
            next_step="start the release that wrote it, or a newer one",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, to)
