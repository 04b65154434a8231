"""Plan, submit, watch: what is printed where, and how it ends."""

import io
import json

import pytest

from common.cli.newapp import Framework, write_app
from common.cli.output import Output
from common.cli.watching import Detached, watch

APP = {"app_digest": "a" * 64, "name": "heart", "size": 10}
FEDERATION = {
    "id": "hospitals", "owner": "a", "title": "", "individual_replies": False, "minimum_mode": "plain",
    "created_at": "2026-01-01T00:00:00.000Z", "members": [],
}  # fmt: skip
ROUND = {"seq": 1, "at": "2026-01-01T10:00:00.000Z", "event": "round_aggregated", "facts": {"round": 1, "rounds": 25}}
NODE = {"id": "node_x", "tenant": "a", "name": "n1", "online": True, "datasets": ["data"], "denials": []}
PLAN = {
    "placeable": True, "app_name": "heart", "model": "heart", "rounds": 25, "minimum": 2, "aggregation": "auto",
    "missing_imports": [], "nodes": [NODE], "outlook": None,
}  # fmt: skip


@pytest.fixture
def app(tmp_path):
    return write_app("heart", Framework.NUMPY, tmp_path)


@pytest.fixture
def open_hub(hub, job):
    hub.on("POST", "/apps", APP)
    hub.items("/federations", [FEDERATION])
    hub.on("POST", "/jobs", job(state="queued"))
    hub.on("GET", f"/jobs/{job()['id']}", job(state="succeeded", round=25))
    hub.items(f"/jobs/{job()['id']}/events", [ROUND])
    return hub


def test_submitting_prints_the_id_alone(open_hub, hansa, app, job):
    code, out, err = hansa("job", "submit", app, "-c", "num-server-rounds=3 lr=0.1", "-c", "name=two words")
    assert (code, out) == (0, job()["id"] + "\n")
    assert f"hansa job watch {job()['id']}" in err
    sent = json.loads(next(body for method, path, body, _ in open_hub.asked if (method, path) == ("POST", "/jobs")))
    assert sent["run_config"] == {"num-server-rounds": 3, "lr": 0.1, "name": "two words"}
    assert sent["federation"] == "hospitals"


def test_watching_a_job_that_succeeds_ends_0(open_hub, hansa, app):
    code, out, err = hansa("job", "submit", app, "--watch")
    assert (code, out) == (0, "")
    assert "10:00:00  round aggregated 1/25" in err
    assert "succeeded after 25 rounds" in err


def test_what_a_job_made_is_named_and_a_job_that_made_nothing_says_so(open_hub, hansa, app, job):
    _, _, err = hansa("job", "submit", app, "--wait")
    assert "ended without a model" in err
    assert "hansa model show" not in err
    version = {
        "tenant": "a", "model": "heart", "version": 4, "manifest": "", "manifest_size": 0, "federation": None,
        "job": job()["id"], "round": 2, "created_at": "2026-01-01T00:00:00.000Z", "metrics": {}, "servable": False,
    }  # fmt: skip
    other = {**version, "version": 5, "job": "job_other"}
    which = job()["tenant"], job()["model"]
    model = {"tenant": which[0], "model": which[1], "versions": [other, version], "aliases": []}
    open_hub.on("GET", "/models/{}/{}".format(*which), model)
    for state in ("succeeded", "failed"):  # a failed job may have left one too
        open_hub.on("GET", f"/jobs/{job()['id']}", job(state=state, round=2))
        assert "hansa model show {}/{}:4\n".format(*which) in hansa("job", "submit", app, "--wait")[2]


def test_watching_for_a_program_is_one_json_a_line(open_hub, hansa, app):
    code, out, _ = hansa("job", "submit", app, "--watch", "--json")
    assert code == 0
    assert [json.loads(line).get("event") or json.loads(line)["state"] for line in out.splitlines()] == [
        "round_aggregated",
        "succeeded",
    ]


@pytest.mark.parametrize(
    ("state", "reason", "code"),
    [
        ("failed", "app_raised", 1),
        ("failed", "too_few_nodes", 3),
        ("cancelled", "", 1),
        ("failed", "missing_imports", 3),
    ],
)
def test_waiting_ends_with_the_job_s_own_verdict(open_hub, hansa, app, job, state, reason, code):
    open_hub.on("GET", f"/jobs/{job()['id']}", job(state=state, reason=reason, note="because"))
    got, out, err = hansa("job", "submit", app, "--wait")
    assert (got, out) == (code, job()["id"] + "\n")
    assert "because" in err


def test_detaching_leaves_the_job_and_says_how_to_come_back(open_hub, hansa, job, monkeypatch):
    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr("common.client.work.follow", interrupted)
    code, _, err = hansa("job", "watch", job()["id"])
    assert code == 130
    assert f"hansa job watch {job()['id']}" in err


def test_a_plan_that_can_never_be_placed_ends_7_with_every_denial(open_hub, hansa, app):
    denials = [{"code": "app_not_approved", "message": "no"}, {"code": "node_offline", "message": "off"}]
    open_hub.on("POST", "/jobs:plan", {**PLAN, "placeable": False, "nodes": [{**NODE, "denials": denials}]})
    code, out, err = hansa("job", "plan", app)
    assert code == 7
    assert "app_not_approved" in out
    assert "node_offline" in out
    assert "can never be placed" in err


def test_a_plan_says_when_it_would_start_how_long_it_takes_and_what_it_costs(open_hub, hansa, app):
    share = {
        "site": "a", "nodes": 2, "resource": "cuda", "round": 2.0, "held": 1.0, "guarantee": None, "limit": 4.0,
        "weight": 3,
    }  # fmt: skip
    outlook = {
        "nodes": 2, "start": "2026-01-01T00:10:00.000Z", "latest_start": "2026-01-01T00:20:00.000Z",
        "code": "reserved", "reason": "2 nodes are kept for it",
        "round_s": 60.0, "length_s": 1500.0, "gpu_hours": 0.83, "sites": [share],
    }  # fmt: skip
    open_hub.on("POST", "/jobs:plan", {**PLAN, "outlook": outlook})
    code, out, err = hansa("job", "plan", app)
    assert code == 0
    assert "2 nodes are kept for it" in err
    assert ", at the latest " in err
    assert "about 1500 s, 0.83 GPU-hours" in err
    assert "cuda" in out


def test_a_job_says_what_its_rounds_wait_for(open_hub, hansa, job):
    wait = {"ask": "job_1/3", "code": "no_capacity", "reason": "needs 2 nodes", "forecast_start": None}
    wait["latest_start"] = "2026-01-01T00:05:00.000Z"
    open_hub.on("GET", f"/jobs/{job()['id']}", job(waits=[wait]))
    code, out, _ = hansa("job", "show", job()["id"])
    assert code == 0
    assert "job_1/3: needs 2 nodes, at the latest 2026" in out


def test_a_plan_that_can_be_placed_ends_0(open_hub, hansa, app):
    open_hub.on("POST", "/jobs:plan", PLAN)
    code, out, err = hansa("job", "plan", app, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["placeable"]


def test_an_id_s_beginning_is_enough_and_two_that_fit_are_named(hub, hansa, job):
    first, second = job(), job(id="job_0123ffffffffffff")
    hub.items("/jobs", [first, second])
    hub.on("GET", f"/jobs/{first['id']}", first)
    assert hansa("job", "show", "01234")[0] == 0
    code, _, err = hansa("job", "show", "0123")
    assert code == 1
    assert second["id"] in err


def test_what_is_left_out_of_the_app_is_said_when_it_is_submitted(open_hub, hansa, app):
    (app / "rows.csv").write_text("a,b\n")
    assert "not part of the app: rows.csv" in hansa("job", "submit", app)[2]


def test_no_job_in_a_state_is_not_no_job_at_all(hub, hansa):
    hub.items("/jobs", [])
    assert "no job is running" in hansa("job", "ls", "--state", "running")[2]
    assert "no jobs yet" in hansa("job", "ls")[2]


def test_the_newest_job_is_meant_when_none_is_said(hub, hansa, job):
    hub.items("/jobs", [job()])
    hub.on("GET", f"/jobs/{job()['id']}/logs", b"hello\n")
    assert hansa("job", "logs")[:2] == (0, "hello\n")


def test_several_federations_must_be_told_apart(open_hub, hansa, app):
    open_hub.items("/federations", [FEDERATION, {**FEDERATION, "id": "other"}])
    code, _, err = hansa("job", "submit", app)
    assert code == 1
    assert "--federation" in err


def test_the_live_line_is_drawn_over_itself_and_leaves_nothing(job):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    class Jobs:
        def get(self, _):
            return job(state="running")

        def follow(self, _, **_more):
            yield ROUND
            raise KeyboardInterrupt

    class Hub:
        jobs = Jobs()

    out = Output(out=io.StringIO(), err=Terminal())
    with pytest.raises(Detached):
        watch(Hub(), "j", out)
    assert "round 1/25" in out.err.getvalue()
    assert out.err.getvalue().endswith("\r\x1b[2K")


def test_a_log_in_a_pipe_has_no_colours(hub, hansa, job):
    hub.on("GET", f"/jobs/{job()['id']}/logs", b"\x1b[92mINFO \x1b[0m: round 1\n")
    assert hansa("job", "logs", job()["id"])[1] == "INFO : round 1\n"
