"""What the tests of a node share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gpus import FakeNvml, Gpu
from tests.leased_node import Node


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    gpus = (Gpu("GPU-a", reserved=0), Gpu("GPU-b", reserved=0, minor=1))
    FakeNvml(*gpus).install(monkeypatch)
    node = Node(tmp_path / "node.sqlite", *gpus)
    yield node
    node.driver.close()
    node.state.close()
