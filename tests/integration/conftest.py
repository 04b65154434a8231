"""What several files of tests are raised with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from client_node.services.deploy import ModelServing
from common.units import Seconds
from coordinator.rpc.limits import LinkLimits
from tests.integration.link_kit import Kit, MovableClock, open_kit
from tests.integration.served_models import MODE, HandingLink, Registry, joined_node


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    """A node link that sweeps often, under a clock that can be moved."""
    made = await open_kit(tmp_path, clock=MovableClock(), limits=LinkLimits(sweep_s=Seconds(0.05)))
    yield made
    await made.stop()


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
async def serving(tmp_path: Path, registry: Registry) -> AsyncIterator[ModelServing]:
    """The inference process of a node that trusts ``registry``."""
    started = ModelServing(joined_node(tmp_path / "node", registry), MODE)
    await started.start()
    yield started
    await started.close()


@pytest.fixture
def link(registry: Registry) -> HandingLink:
    return HandingLink(registry)
