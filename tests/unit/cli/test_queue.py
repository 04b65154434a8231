"""``hansa queue``: who waits and why, and why a lease was given."""

import json

POLICY = {
    "name": "fair", "fair": True, "k": 0.0, "half_life_s": 604800.0, "head_starts_s": {}, "reservations": 1,
    "promise": "shares by weight", "starvation_bound": "by use",
}  # fmt: skip
NEED = {"gpu_kind": "", "gpu_milli": 0, "gpu_memory_mib": 0, "cpus": 1.0, "memory_mib": 4096}
ASK = {
    "id": "job_1/7", "job": "job_1", "tenant": "north", "minimum": 2, "maximum": 3, "nodes": ["a", "b", "c"],
    "need": NEED, "priority": "normal", "expected_s": 1.0, "longest_s": 60.0, "left_s": 9.0,
    "submitted_at": "2026-01-01T00:00:00.000Z",
}  # fmt: skip
WAIT = {**ASK, "code": "reserved", "reason": "2 nodes are kept for it", "not_before": None, "forecast_start": None}
WAIT |= {"latest_start": "2026-01-01T00:05:00.000Z"}
LEASE = {
    "id": "job_2/1@node_a@5", "ask": "job_2/1", "job": "job_2", "tenant": "south", "node": "node_a", "node_name": "a",
    "site": "north", "devices": ["GPU-1"], "gpu_milli": 500, "borrowed": True, "enforcement": ["visible", "watchdog"],
    "started_at": "2026-01-01T00:00:00.000Z", "until": "2026-01-01T01:00:00.000Z",
}  # fmt: skip
QUEUE = {
    "at": "2026-01-01T00:00:00.000Z", "policy": POLICY, "waiting": [WAIT], "leases": [LEASE],
    "idle": [{"node": "node_b", "name": "b", "site": "south", "reason": "kept for job_1/7"}], "hidden": 2,
}  # fmt: skip
PROOF = {
    "row": 9, "at": "2026-01-01T00:00:00.000Z", "holds": True, "waiting": 2, "nodes": 3, "granted": [LEASE],
    "use": [{"site": "north", "tenant": "south", "used": 12.5, "weight": 2}],
    "others": [{"ask": "job_1/7", "tenant": "north", "outcome": "2 nodes are kept for it"}],
}  # fmt: skip
HISTORY = {
    "ask": {**ASK, "id": "job_2/1"}, "asked_at": "2026-01-01T00:00:00.000Z", "policy": POLICY, "wait": None,
    "leases": [LEASE], "proof": PROOF,
    "rows": [{"row": 8, "at": "2026-01-01T00:00:00.000Z", "event": "asked", "words": "asked for 2 to 3 nodes"}],
}  # fmt: skip


def test_the_queue_shows_who_waits_who_holds_and_who_is_idle(hub, hansa):
    hub.on("GET", "/queue", QUEUE)
    code, out, err = hansa("queue")
    assert code == 0
    for words in (
        "job_1/7",
        "2 nodes are kept for it",
        "not foreseen",
        "LATEST",
        "visible, watchdog",
        "GPU-1",
        "kept for job_1/7",
    ):
        assert words in out
    assert "policy fair: shares by weight" in err
    assert "and 2 of tenants you share nothing with" in err


def test_the_queue_as_json_is_what_the_server_said(hub, hansa):
    hub.on("GET", "/queue", QUEUE)
    code, out, _ = hansa("queue", "--json")
    assert (code, json.loads(out)) == (0, QUEUE)


def test_an_empty_queue_says_so(hub, hansa):
    hub.on("GET", "/queue", {**QUEUE, "waiting": [], "leases": [], "idle": [], "hidden": 0})
    code, out, err = hansa("queue")
    assert (code, out) == (0, "")
    assert "nothing waits" in err


def test_why_shows_the_proof_and_says_loudly_if_it_does_not_hold(hub, hansa):
    hub.on("GET", "/queue/history", HISTORY)
    code, out, _ = hansa("queue", "why", "job_2/1@node_a@5")
    assert code == 0
    assert "the same state gives the same decision" in out
    assert "asked for 2 to 3 nodes" in out
    assert "12.5" in out
    hub.on("GET", "/queue/history", {**HISTORY, "proof": {**PROOF, "holds": False}})
    assert "DOES NOT LEAD TO IT" in hansa("queue", "why", "job_2/1")[1]


def test_why_of_an_ask_that_waits_says_the_reason(hub, hansa):
    hub.on("GET", "/queue/history", {**HISTORY, "ask": ASK, "wait": WAIT, "proof": None, "leases": []})
    code, out, _ = hansa("queue", "why", "job_1/7")
    assert code == 0
    assert "waits: 2 nodes are kept for it (reserved)" in out


def test_why_of_what_is_no_round_says_how_a_round_is_named(hub, hansa):
    code, _, err = hansa("queue", "why", "job_1")
    assert code == 1
    assert "'job_1' is no round" in err
    assert "JOB/N" in err
