"""The coordinator's records in SQLite or PostgreSQL, through SQLAlchemy."""

from coordinator.adapters.sql.store import SqlStore, make_store

__all__ = ["SqlStore", "make_store"]
