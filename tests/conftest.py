"""What every test gets: real servers by name, a fixed Hypothesis profile, and none of the user's own settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.servers.fixtures import minio_server, moto_server, postgres_server, postgres_url

__all__ = ["minio_server", "moto_server", "postgres_server", "postgres_url"]

# No deadline: a busy machine is no error. CI tries the same examples every time; a developer's runs look for new ones.
settings.register_profile("ci", derandomize=True, deadline=None, database=None, max_examples=100)
settings.register_profile("dev", deadline=None, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(autouse=True)
def _nobodys_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A developer's own login, failpoint or coordinator must not reach a test."""
    for name in [n for n in os.environ if n.startswith("HANSA_") and n != "HANSA_REQUIRE_SERVERS"]:
        monkeypatch.delenv(name)
    context: Path = tmp_path_factory.getbasetemp() / "no-context.json"
    monkeypatch.setenv("HANSA_CONTEXT", str(context))
