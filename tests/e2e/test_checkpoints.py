"""A job that makes versions on its way, not only at its end."""

import textwrap

import numpy as np
import pytest
from safetensors.numpy import load

from common.manifest import read_unverified
from tests.platform import platform as run_platform

pytestmark = pytest.mark.e2e
NAMES = ["cleveland", "hungary"]
# Every node adds ten to every value: after round k each value is 10 k, whatever is averaged.
APP = """
    import numpy as np
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg

    client = ClientApp()
    server = ServerApp()


    @client.train()
    def train(msg: Message, context: Context):
        arrays = ArrayRecord([array.numpy() + 10 for array in msg.content["arrays"].values()])
        metrics = MetricRecord({"num-examples": 10, "loss": 0.5})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=msg)


    @client.evaluate()
    def evaluate(msg: Message, context: Context):
        return Message(RecordDict({"metrics": MetricRecord({"num-examples": 10, "loss": 0.5})}), reply_to=msg)


    @server.main()
    def main(grid: Grid, context: Context) -> None:
        first = ArrayRecord([np.zeros(3, np.float32)])
        FedAvg().start(grid=grid, initial_arrays=first, num_rounds=context.run_config["rounds"])
"""
PYPROJECT = """
    [project]
    name = "steps"
    version = "1.0.0"
    [tool.flwr.app.components]
    serverapp = "steps:server"
    clientapp = "steps:client"
    [tool.flwr.app.config]
    rounds = 5
    [tool.hansa]
    model = "steps"
    alias = "champion"
    checkpoint_every = 2
"""


def test_a_version_every_two_rounds_besides_the_result_and_the_aliases_move_along(tmp_path):
    app = tmp_path / "steps"
    app.mkdir()
    (app / "steps.py").write_text(textwrap.dedent(APP))
    (app / "pyproject.toml").write_text(textwrap.dedent(PYPROJECT))
    with run_platform(tmp_path, NAMES, arguments=["--sandbox", "none"]) as whole:
        for node in whole.nodes.values():
            node.hansa("policy", "set", "sandbox", "none")
        whole.start_nodes()
        job = whole.finish(whole.submit(whole.approve(app)))
        assert (job["state"], job["round"]) == ("succeeded", 5), job["note"]
        events = [(e["event"], e["facts"]) for e in whole.client.jobs.follow(job["id"])]
        assert "checkpoint_failed" not in {name for name, _ in events}
        model = whole.client.models.get(NAMES[0], "steps")
        versions = sorted(model["versions"], key=lambda row: row["version"])
        assert [(v["version"], v["round"], v["job"]) for v in versions] == [
            (1, 2, job["id"]),
            (2, 4, job["id"]),
            (3, 5, job["id"]),
        ]
        for made in versions:
            assert values(whole, made["version"], tmp_path) == [10.0 * made["round"]] * 3
        moved = {alias["name"]: (alias["version"], alias["generation"]) for alias in model["aliases"]}
        assert moved == {"champion": (3, 3)}  # moved once for each version
        told = [facts for name, facts in events if name == "version_published"]
        assert [(facts["version"], facts["alias"]) for facts in told] == [(n, "champion") for n in (1, 2, 3)]


def values(whole, version, folder):
    """Return the one array of a version."""
    weights = read_unverified(whole.client.models.manifest(NAMES[0], "steps", version)).blobs["weights"].digest
    target = folder / f"{version}.safetensors"
    whole.client.models.pull_blob(NAMES[0], "steps", version, weights, target)
    (array,) = load(target.read_bytes()).values()
    return np.asarray(array).tolist()
