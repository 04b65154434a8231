"""A node that dies at any step comes back, and nothing is lost or counted twice.

The app adds its count of calls to a sum kept in ``context.state``: 1, then 1 + 2, then 3 + 3.  Both nodes hold the
same, so the mean after three rounds is 6 in every element; a task that was lost, or counted twice, gives another number.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from common.cli.modelfolder import pull_version
from common.failpoints import REGISTRY
from tests.platform import Platform, platform, pretty

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
APP = Path(__file__).parents[1] / "apps" / "stateful"
THREE_ROUNDS = 6.0
# These two need chunks in the middle of an object, and a model to install: tried where there are such.
ELSEWHERE = {"download_mid_chunk", "upload_mid_chunk", "model_installed_before_swap"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Platform, str]]:
    with platform(tmp_path_factory.mktemp("crash"), ["alpha", "beta"]) as running:
        app = running.approve(APP)
        running.start_nodes()
        yield running, app


def final_weights(whole: Platform, job: str, target: Path) -> np.ndarray:
    """Return the arrays of the version that ``job`` made, from its safetensors blob."""
    from safetensors.numpy import load_file

    latest = next(m["latest"] for m in whole.client.models.list() if m["latest"]["job"] == job)
    pull_version(whole.client, latest["tenant"], latest["model"], latest["version"], target / "pulled")
    (arrays,) = load_file(next((target / "pulled").rglob("*.safetensors"))).values()
    return arrays


@pytest.mark.parametrize("name", [n for n in REGISTRY["node"] if n not in ELSEWHERE])
def test_a_node_killed_at_a_named_place_comes_back_and_the_model_is_the_same(
    whole: tuple[Platform, str], name: str, tmp_path: Path
) -> None:
    running, app = whole
    process = running.nodes["alpha"].process
    process.stop()
    process.start(f"{name}:2")  # in the second round, when there is a state to lose
    running.until(lambda: all(node["online"] for node in running.admin.nodes.list()), "nodes online")
    job = running.submit(app)
    assert process.wait(60) == -signal.SIGKILL
    process.start()
    done = running.finish(job)
    assert done["state"] == "succeeded", pretty(done) + running.tail()
    assert final_weights(running, job, tmp_path).tolist() == [THREE_ROUNDS] * 3
