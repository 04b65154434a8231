"""A round does not wait for ever, nor for more than it needs: deadline, quorum and over-selection with a slow node."""

import re
import shutil
from pathlib import Path

import pytest

from tests.platform import platform

APP = Path(__file__).parents[1] / "apps" / "slow"
NODES = ("a", "b", "c")

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with platform(tmp_path_factory.mktemp("quorum"), NODES, env={"HANSA_SETTLE_S": "0.2"}) as running:
        running.start_nodes()
        yield running


def run(whole, tmp_path, **table):
    """Run the app with this ``[tool.hansa]`` table; return the job and its train rounds."""
    copy = tmp_path / "app"
    shutil.copytree(APP, copy)
    project = copy / "pyproject.toml"
    text = project.read_text()
    for key, value in table.items():
        text, found = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        assert found == 1, key
    project.write_text(text)
    job = whole.submit(whole.approve(copy))
    done = whole.finish(job)
    rounds = [row for row in whole.client.jobs.rounds(job) if row["message_type"] == "train"]
    return done, rounds


def test_a_round_closes_with_its_target_and_leaves_the_straggler(whole, tmp_path):
    done, rounds = run(whole, tmp_path, minimum=2, target=2, deadline_s=90)
    assert done["state"] == "succeeded", done
    assert [len(row["included"]) for row in rounds] == [2, 2]
    assert [row["asked"] for row in rounds] == [["a", "b", "c"]] * 2


def test_a_round_closes_at_its_deadline_with_the_minimum(whole, tmp_path):
    done, rounds = run(whole, tmp_path, minimum=2, target=0, deadline_s=4)
    assert done["state"] == "succeeded", done
    assert [len(row["included"]) for row in rounds] == [2, 2]
    assert all(row["dropped"] for row in rounds)  # the one that did not answer is named, with the reason


def test_a_round_without_its_minimum_says_what_it_waits_for_and_then_fails(whole, tmp_path):
    done, _ = run(whole, tmp_path, minimum=3, target=0, deadline_s=2, wait_s=1)
    assert (done["state"], done["reason"]) == ("failed", "too_few_nodes"), done
    assert "c" in done["note"], done
