"""Any process may be killed at any moment: the job goes on by itself and ends with the very same bytes."""

import base64
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from common.errors import PlatformError
from common.failpoints import REGISTRY
from tests.platform import PATIENCE_S, Platform, platform, pretty

APP = Path(__file__).parents[1] / "apps" / "durable"
NODES = ("a", "b", "c")
MODES = ("plain", "mask")  # how updates leave the nodes

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


class Stage:
    """One platform for all crashes, and what a calm run of the app ends with in each mode."""

    def __init__(self, whole: Platform, folder: Path) -> None:
        self.whole = whole
        self.digests = {mode: whole.approve(app_in(mode, folder)) for mode in MODES}
        self.calm = {mode: self.result(self.submit(mode)) for mode in MODES}

    def submit(self, mode: str, **config: object) -> str:
        return self.whole.submit(self.digests[mode], seed=11, **config)

    def result(self, job: str) -> tuple[str, object]:
        """Return the digest of the model that the job made, and its last metrics."""
        done = self.whole.finish(job)
        assert done["state"] == "succeeded", pretty(done) + self.whole.tail()
        # By hand: in the fourth round each node's own state has counted three, however often a round was run.
        assert [value for key, value in done["metrics"].items() if key.endswith("seen")] == [3.0], done["metrics"]
        client = self.whole.client
        version = next(v for v in client.models.get(NODES[0], "durable")["versions"] if v["job"] == job)
        manifest = client.models.manifest(NODES[0], "durable", version["version"])
        for row in client.jobs.rounds(job):
            once = {part["node"] for part in row["included"]}
            assert len(once) == len(row["included"]) == len(NODES), (row, self.whole.tail())
        return weights_digest(manifest), done["metrics"]


def app_in(mode: str, folder: Path) -> Path:
    """Return a copy of the app that says how its updates leave the nodes."""
    app = shutil.copytree(APP, folder / mode)
    project = app / "pyproject.toml"
    project.write_text(project.read_text().replace("[tool.hansa]\n", f'[tool.hansa]\nprivacy = "{mode}"\n'))
    return app


def mode_of(failpoint: str) -> str:
    """Return the mode in which a place is come by: some are in masked rounds alone."""
    return "mask" if failpoint.startswith(("mask", "survivors")) else "plain"


def weights_digest(manifest: bytes) -> str:
    """Return the digest of the weights named in a signed manifest."""
    return str(json.loads(base64.b64decode(json.loads(manifest)["payload"]))["blobs"]["weights"]["digest"])


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with platform(tmp_path_factory.mktemp("durable"), NODES, env={"HANSA_SETTLE_S": "0.2"}) as whole:
        whole.start_nodes()
        yield Stage(whole, tmp_path_factory.mktemp("apps"))


def processes_of(stage):
    return {"coordinator": stage.whole.coordinator, **{name: node.process for name, node in stage.whole.nodes.items()}}


@pytest.mark.parametrize("name", REGISTRY["coordinator"])
def test_a_coordinator_killed_at_a_failpoint_ends_with_the_same_bytes(stage, name):
    whole = stage.whole
    # The second time, so that a round lies behind; places that come once a job are met at the first.
    count = (
        1
        if name in {"job_admitted", "roster_fixed", "job_finished_before_publish", "manifest_written_before_alias"}
        else 3
    )
    whole.coordinator.kill()
    whole.start(f"{name}:{count}")
    mode = mode_of(name)
    job = submit_although_it_dies(stage, mode)
    assert whole.coordinator.wait(PATIENCE_S) == -signal.SIGKILL
    whole.start()
    assert stage.result(job or only_job(stage)) == stage.calm[mode]


def submit_although_it_dies(stage, mode):
    try:
        return stage.submit(mode)
    except PlatformError:
        return None


def only_job(stage):
    return stage.whole.client.jobs.list(limit=1)[0]["id"]


@pytest.mark.parametrize("name", REGISTRY["node"])
def test_a_node_killed_at_a_failpoint_ends_with_the_same_bytes(stage, name):
    node = stage.whole.nodes["b"]
    node.process.kill()
    node.process.start(f"{name}:{1 if name == 'model_installed_before_swap' else 2}")
    job = stage.submit(mode_of(name))
    assert node.process.wait(PATIENCE_S) == -signal.SIGKILL
    node.process.start()
    assert stage.result(job) == stage.calm[mode_of(name)]


@pytest.mark.parametrize("mode", MODES)
def test_kills_at_random_moments_end_with_the_same_bytes(stage, mode):
    rng = random.Random(5)
    for _ in range(2):
        job = stage.submit(mode, pause=0.05, num_server_rounds=4)
        for _ in range(3):
            time.sleep(rng.uniform(0.1, 1.2))
            kill_and_restart(stage, rng.choice(["coordinator", *NODES]))
        assert stage.result(job) == stage.calm[mode]


def kill_and_restart(stage, who):
    process = processes_of(stage)[who]
    process.kill(signal.SIGKILL)
    if who == "coordinator":
        stage.whole.start()
    else:
        process.start()


@pytest.mark.parametrize("who", ["coordinator", "b"])
def test_a_killed_child_is_started_again_and_ends_with_the_same_bytes(stage, who):
    job = stage.submit("plain", pause=0.8)
    stage.whole.until(lambda: stage.whole.client.jobs.get(job)["round"] >= 1, "first round")
    for child in app_children(processes_of(stage)[who].pid):
        os.kill(child, signal.SIGKILL)
    assert stage.result(job) == stage.calm["plain"]


def app_children(pid):
    """Return the pids of app processes (not the model server) below ``pid``."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            line = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"common/child" in line:
                found.append(child)
    assert found
    return found
