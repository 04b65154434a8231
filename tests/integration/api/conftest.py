from __future__ import annotations

import pytest

from coordinator.api.settings import ApiSettings
from tests.unit.api.world import furnish, open_world


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return furnish(tmp_path_factory.mktemp("api") / "template")


@pytest.fixture
async def world(template, tmp_path):
    settings = ApiSettings(public_url="https://hub.test", heartbeat=0.05, joins_per_minute=1000)
    async with open_world(template, tmp_path / "world", settings) as opened:
        yield opened
