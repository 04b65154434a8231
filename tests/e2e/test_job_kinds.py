"""Jobs of every kind on one platform: by hand, refused, cancelled, with a node that sends nonsense."""

import textwrap
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from common.errors import PolicyDenied
from common.manifest import read_unverified
from tests.platform import platform as run_platform

pytestmark = pytest.mark.e2e
APPS = Path(__file__).parents[1] / "apps"
NAMES = ["cleveland", "hungary", "switzerland"]
WRONG = """
    import os

    import numpy as np
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg

    client = ClientApp()
    server = ServerApp()


    @client.train()
    def train(msg: Message, context: Context):
        w = msg.content["arrays"]["w"].numpy() + 1 + context.node_config["partition-id"]
        metrics = {"num-examples": 10, "loss": 0.5}
        if context.node_config["partition-id"] == 1:
            act = context.run_config["act"]
            if act == "nan":
                w[0] = np.nan
            elif act == "shape":
                w = w.reshape(1, -1)
            elif act == "dtype":
                w = w.astype(np.float64)
            elif act == "weight":
                metrics["num-examples"] = 10**12
            elif act == "metrics":
                metrics["extra"] = 1.0
            elif act == "raise":
                raise ValueError("no data today")
        if context.run_config["act"] == "gone" and msg.content["config"]["server-round"] == 2:
            raise ValueError("the data are gone")
        arrays = ArrayRecord({"w": ArrayRecord([w])["0"]})
        return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)}), reply_to=msg)


    @server.main()
    def main(grid: Grid, context: Context) -> None:
        first = ArrayRecord({"w": ArrayRecord([np.zeros(4, np.float32)])["0"]})
        strategy = FedAvg(fraction_evaluate=0.0)
        result = strategy.start(grid=grid, initial_arrays=first, num_rounds=context.run_config["rounds"])
        print("w is", result.arrays["w"].numpy().tolist())
        if context.run_config["end"] == "raise":
            raise RuntimeError("no display for the plot")
        if context.run_config["end"] == "exit":
            os._exit(3)
"""
PYPROJECT = """
    [project]
    name = "wrong"
    version = "1.0.0"
    [tool.flwr.app.components]
    serverapp = "wrong:server"
    clientapp = "wrong:client"
    [tool.flwr.app.config]
    rounds = 2
    act = "none"
    end = "well"
    [tool.hansa]
    privacy = "plain"  # two of three go on; a masked sum holds three
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    with run_platform(tmp_path_factory.mktemp("kinds"), NAMES, arguments=["--sandbox", "none"]) as whole:
        for node in whole.nodes.values():
            node.hansa("policy", "set", "sandbox", "none")
            node.hansa("policy", "set", "individual_replies", "allow")
        whole.start_nodes()
        yield whole


@pytest.fixture(scope="module")
def wrong(platform, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "wrong.py").write_text(textwrap.dedent(WRONG))
    (folder / "pyproject.toml").write_text(textwrap.dedent(PYPROJECT))
    return platform.approve(folder)


def run(platform, digest, **config):
    job = platform.finish(platform.submit(digest, **config))
    events = [(e["event"], e["facts"]) for e in platform.client.jobs.follow(job["id"])]
    return job, events, platform.client.jobs.log(job["id"])


def test_an_app_that_calls_the_grid_by_hand_gets_every_reply(platform):
    job, events, log = run(platform, platform.approve(APPS / "by_hand"))
    assert job["state"] == "succeeded", job["note"]
    assert "counts [10, 11, 12]" in log
    assert {e["kind"] for name, e in events if name == "round_started"} == {"query", "train"}


def test_an_app_that_pushes_and_pulls_gets_each_reply_once(platform):
    job, _, log = run(platform, platform.approve(APPS / "push_pull"))
    assert job["state"] == "succeeded", job["note"]
    assert "values [7, 14, 21]" in log


@pytest.mark.parametrize(
    ("act", "code"),
    [
        ("nan", "not_finite"),
        ("shape", "shape"),
        ("dtype", "dtype"),
        ("weight", "weight"),
        ("metrics", "metric_keys"),
    ],
)
def test_a_bad_update_is_dropped_with_its_reason_and_the_others_go_on(platform, wrong, act, code):
    job, events, log = run(platform, wrong, act=act)
    assert job["state"] == "succeeded", job["note"]
    dropped = [(e["node"], e["code"], e["round"]) for name, e in events if name == "update_dropped"]
    assert dropped == [("hungary", code, 1), ("hungary", code, 2)]
    assert "w is [4.0, 4.0, 4.0, 4.0]" in log  # two rounds of the mean of +1 and +3


def test_an_exception_at_one_node_is_recorded_there_and_the_round_goes_on(platform, wrong):
    job, events, _ = run(platform, wrong, act="raise")
    assert job["state"] == "succeeded", job["note"]
    failed = [(e["node"], e["reason"]) for name, e in events if name == "node_failed"]
    assert failed == [("hungary", "app_raised")] * 2


@pytest.mark.parametrize(("end", "reason"), [("raise", "app_raised"), ("exit", "app_exited")])
def test_what_was_trained_before_an_app_broke_is_a_version_that_no_alias_names(platform, wrong, end, reason, tmp_path):
    job, _, _ = run(platform, wrong, end=end)
    assert (job["state"], job["reason"]) == ("failed", reason), job["note"]
    assert kept(platform, job, tmp_path) == (2, [4.0] * 4)  # each round adds the mean of 1, 2 and 3


def test_what_was_trained_before_too_few_nodes_were_left_is_kept_too(platform, tmp_path):
    (tmp_path / "wrong.py").write_text(textwrap.dedent(WRONG))
    (tmp_path / "pyproject.toml").write_text(textwrap.dedent(PYPROJECT) + "wait_s = 1\n")
    job, _, _ = run(platform, platform.approve(tmp_path), act="gone")
    assert (job["state"], job["reason"]) == ("failed", "too_few_nodes"), job["note"]
    assert kept(platform, job, tmp_path) == (1, [2.0] * 4)


def kept(platform, job, folder):
    """Return round and weights of what a failed job left; its note must name it, and no alias may."""
    model = platform.client.models.get("cleveland", "wrong")
    version = next(v for v in model["versions"] if v["job"] == job["id"])
    assert version["version"] not in {alias["version"] for alias in model["aliases"]}
    assert job["note"].endswith(f"the model of round {version['round']} is kept: cleveland/wrong:{version['version']}")
    which = ("cleveland", "wrong", version["version"])
    manifest = read_unverified(platform.client.models.manifest(*which))
    weights = folder / "weights.safetensors"
    platform.client.models.pull_blob(*which, manifest.blobs["weights"].digest, weights)
    return version["round"], load_file(weights)["arrays/w"].tolist()


def test_a_cancelled_job_ends_at_once_and_says_by_whom(platform, wrong):
    job = platform.submit(wrong, rounds=100_000)
    platform.until(lambda: platform.client.jobs.get(job)["round"] > 1, "two rounds")
    platform.client.jobs.cancel(job)
    done = platform.client.jobs.get(job)
    assert (done["state"], done["reason"]) == ("cancelled", "cancelled")
    events = [e["event"] for e in platform.client.jobs.follow(job)]
    assert events[-1] == "job_cancelled"


def test_an_app_whose_imports_are_missing_is_refused_by_name(platform):
    digest = platform.approve(APPS / "missing")
    with pytest.raises(PolicyDenied, match="tensorflow_of_another_world"):
        platform.submit(digest)


def test_a_job_that_no_steward_approved_is_refused_with_every_reason(platform, tmp_path):
    (tmp_path / "wrong.py").write_text(textwrap.dedent(WRONG) + "\n# another app\n")
    (tmp_path / "pyproject.toml").write_text(textwrap.dedent(PYPROJECT))
    digest = platform.client.apps.upload(tmp_path)["app_digest"]
    with pytest.raises(PolicyDenied) as refused:
        platform.submit(digest)
    for name in NAMES:
        assert f"{name}'s steward has not approved" in refused.value.detail


def test_single_replies_are_refused_before_any_node_is_asked_where_the_federation_forbids_them(platform):
    platform.client.federations.create("private", NAMES, individual_replies=False)
    for name in NAMES[1:]:
        platform._clients[name].federations.accept("private", name)
    digest = str(platform.client.apps.upload(APPS / "by_hand")["app_digest"])
    for node in platform.nodes.values():
        node.hansa("dataset", "share", "data", "--federation", "private")
        node.hansa("app", "approve", digest, "--federation", "private")
    platform.until(lambda: platform.client.jobs.plan("private", digest)["placeable"], "consent told")
    job = platform.finish(str(platform.client.jobs.submit("private", digest)["id"]))
    events = [e["event"] for e in platform.client.jobs.follow(job["id"])]
    assert (job["state"], job["reason"]) == ("failed", "refused")
    assert "replies to query messages are not folded" in job["note"]
    assert "round_started" not in events


def test_a_tenant_that_leaves_takes_no_more_part_in_running_jobs_and_one_that_is_back_does(platform, wrong):
    federations = platform.client.federations
    federations.create("leaving", NAMES, individual_replies=True)
    for name in NAMES[1:]:
        platform._clients[name].federations.accept("leaving", name)
    for node in platform.nodes.values():
        node.hansa("dataset", "share", "data", "--federation", "leaving")
        node.hansa("app", "approve", wrong, "--federation", "leaving")
    platform.until(lambda: platform.client.jobs.plan("leaving", wrong)["placeable"], "consent told")
    job = str(platform.client.jobs.submit("leaving", wrong, run_config={"rounds": 100_000})["id"])

    def included():
        rounds = platform.client.jobs.rounds(job)
        return sorted(entry["name"] for entry in rounds[-1]["included"]) if rounds else []

    platform.until(lambda: included() == NAMES, "a round of all three")
    platform._clients["hungary"].federations.leave("leaving", "hungary")
    platform.until(lambda: included() == ["cleveland", "switzerland"], "a round without the one that left")
    federations.invite("leaving", ["hungary"])
    platform._clients["hungary"].federations.accept("leaving", "hungary")
    platform.until(lambda: included() == NAMES, "a round of all three again")
    platform.client.jobs.cancel(job)
    left = [e["facts"] for e in platform.client.jobs.follow(job) if e["event"] == "node_left"]
    assert left == [{"node": "hungary", "federation": "leaving"}]


def test_too_few_nodes_is_a_visible_wait_that_ends_when_the_node_is_back(platform, tmp_path):
    (tmp_path / "wrong.py").write_text(textwrap.dedent(WRONG))
    table = "wait_s = 60\n[tool.hansa.cohort]\nminimum = 3\n"
    (tmp_path / "pyproject.toml").write_text(textwrap.dedent(PYPROJECT) + table)
    digest = platform.approve(tmp_path)
    away = platform.nodes["switzerland"].process
    away.stop()
    job = platform.submit(digest)
    platform.until(lambda: platform.client.jobs.get(job)["state"] == "waiting", "visible wait")
    note = platform.client.jobs.get(job)["note"]
    assert note.startswith("waiting for 1 more of 3: switzerland offline since ")
    away.start()
    assert platform.finish(job)["state"] == "succeeded"


def test_too_few_nodes_for_too_long_is_a_typed_failure(platform, tmp_path):
    (tmp_path / "wrong.py").write_text(textwrap.dedent(WRONG))
    table = "wait_s = 2\n[tool.hansa.cohort]\nminimum = 3\n"
    (tmp_path / "pyproject.toml").write_text(textwrap.dedent(PYPROJECT) + table)
    digest = platform.approve(tmp_path)
    away = platform.nodes["switzerland"].process
    away.stop()
    job = platform.finish(platform.submit(digest))
    away.start()
    assert (job["state"], job["reason"]) == ("failed", "too_few_nodes")
    assert "switzerland offline since" in job["note"]
