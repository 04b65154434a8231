"""Alembic's environment; ``versions`` holds one file a step, never changed once released."""
