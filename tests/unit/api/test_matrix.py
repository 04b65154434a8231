"""Every route x every kind of caller.  A route without a row here fails."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute

from common.manifest import read_unverified
from coordinator.api.app import create_app
from tests.unit.api.world import CALLERS, JOB, NORTH_NODE, app_archive, safetensors

V2 = "/models/north/heart/versions/2"
MINE = {"admin", "scientist", "auditor"}
PARTNERS = {"partner", "partner_admin"}
EVERYBODY = {"root", "stranger"} | MINE | PARTNERS


def only(
    ok: int, *allowed: str, hidden_from: set[str] = frozenset(), refused: set[str] = frozenset()
) -> dict[str, int]:
    """`allowed` get `ok`; `hidden_from` 404; `refused`, and everybody not named, 403; who has no token 401."""
    expected = dict.fromkeys(EVERYBODY, 403) | dict.fromkeys(hidden_from, 404)
    return expected | dict.fromkeys(allowed, ok) | {"nobody": 401}


def public(status: int) -> dict[str, int]:
    return dict.fromkeys(EVERYBODY | {"nobody"}, status)


LISTED = only(200, *EVERYBODY)
OUTSIDE = {"stranger"} | PARTNERS

SEEN_IN_FEDERATION = only(200, *(EVERYBODY - {"stranger"}), hidden_from={"stranger"})
API = "/api/v1"
ROWS: dict[tuple[str, str], tuple[str, dict, dict[str, int]]] = {
    ("GET", "/healthz"): ("/healthz", {}, public(200)),
    ("GET", "/readyz"): ("/readyz", {}, public(200)),
    ("GET", f"{API}/ca"): ("/ca", {}, public(200)),
    ("POST", f"{API}/join"): ("/join", {"json": {"token": "hjt1_x", "csr": "x"}}, public(400)),
    ("GET", f"{API}/whoami"): ("/whoami", {}, LISTED),
    ("POST", f"{API}/tenants"): ("/tenants", {"json": {"id": "west"}}, only(201, "root")),
    ("GET", f"{API}/tenants"): ("/tenants", {}, LISTED),
    ("GET", f"{API}/tenants/{{tenant}}"): ("/tenants/north", {}, only(200, "root", *MINE, hidden_from=OUTSIDE)),
    ("POST", f"{API}/tenants/{{tenant}}/tokens"): (
        "/tenants/north/tokens", {"json": {"role": "auditor", "subject": "eve"}},
        only(201, "root", "admin", hidden_from=OUTSIDE),
    ),
    ("GET", f"{API}/tenants/{{tenant}}/tokens"): (
        "/tenants/north/tokens", {}, only(200, "root", "admin", "auditor", hidden_from=OUTSIDE),
    ),
    ("DELETE", f"{API}/tenants/{{tenant}}/tokens/{{token}}"): (
        "/tenants/north/tokens/{token}", {}, only(200, "root", "admin", hidden_from=OUTSIDE),
    ),
    ("POST", f"{API}/tenants/{{tenant}}/join-tokens"): (
        "/tenants/north/join-tokens", {"json": {"node_name": "lab"}},
        only(201, "root", "admin", hidden_from=OUTSIDE),
    ),
    ("GET", f"{API}/nodes"): ("/nodes", {}, LISTED),
    ("GET", f"{API}/nodes/{{node}}"): (f"/nodes/{NORTH_NODE}", {}, SEEN_IN_FEDERATION),
    ("POST", f"{API}/nodes/{{node}}:revoke"): (
        f"/nodes/{NORTH_NODE}:revoke", {}, only(200, "root", "admin", hidden_from={"stranger"}),
    ),
    ("POST", f"{API}/federations"): (
        "/federations", {"json": {"id": "of-{caller}", "tenants": []}},
        only(201, "root", "admin", "partner_admin", "stranger"),
    ),
    ("GET", f"{API}/federations"): ("/federations", {}, LISTED),
    ("GET", f"{API}/federations/{{federation}}"): ("/federations/hearts", {}, SEEN_IN_FEDERATION),
    ("POST", f"{API}/federations/{{federation}}:invite"): (
        "/federations/hearts:invite", {"json": {"tenants": ["east"]}}, only(200, "admin", hidden_from={"stranger"}),
    ),
    ("POST", f"{API}/federations/{{federation}}:change"): (
        "/federations/hearts:change", {"json": {"individual_replies": True}},
        only(200, "admin", hidden_from={"stranger"}),
    ),
    ("POST", f"{API}/federations/{{federation}}:accept"): (
        "/federations/hearts:accept", {}, only(200, "admin", "partner_admin", hidden_from={"stranger"}),
    ),
    ("POST", f"{API}/federations/{{federation}}:leave"): (
        "/federations/hearts:leave", {}, only(200, "admin", "partner_admin", hidden_from={"stranger"}),
    ),
    ("GET", f"{API}/capacity"): ("/capacity?gpus=2&arrivals_per_s=0.01&service_s=60", {}, only(200, "root")),
    ("GET", f"{API}/grants"): ("/grants", {}, LISTED),
    ("GET", f"{API}/grants/{{site}}/{{tenant}}"): ("/grants/north/south", {}, SEEN_IN_FEDERATION),
    ("PUT", f"{API}/grants/{{site}}/{{tenant}}"): (
        "/grants/north/south", {"json": {"weight": 2}, "headers": {"If-Match": "*"}},
        only(200, "admin", hidden_from={"stranger"}),
    ),
    ("DELETE", f"{API}/grants/{{site}}/{{tenant}}"): (
        "/grants/north/south", {"headers": {"If-Match": "*"}}, only(204, "admin", hidden_from={"stranger"}),
    ),
    ("GET", f"{API}/allowances"): ("/allowances", {}, LISTED),
    ("GET", f"{API}/allowances/{{tenant}}"): (
        "/allowances/north", {}, only(200, "root", *MINE, hidden_from=OUTSIDE),
    ),
    ("PUT", f"{API}/allowances/{{tenant}}"): (
        "/allowances/north",
        {"json": {"running_jobs": 1, "queued_jobs": 1, "stored_bytes": 1}, "headers": {"If-Match": "*"}},
        only(200, "root", hidden_from=OUTSIDE),
    ),
    ("DELETE", f"{API}/allowances/{{tenant}}"): (
        "/allowances/north", {"headers": {"If-Match": "*"}}, only(200, "root", hidden_from=OUTSIDE),
    ),
    ("POST", f"{API}/apps"): (
        "/apps", {"content": "app", "headers": {"Content-Type": "application/zip"}},
        only(201, "admin", "scientist", "partner", "partner_admin", "stranger"),
    ),
    ("POST", f"{API}/jobs:plan"): (
        "/jobs:plan", {"json": {"federation": "hearts", "app": "{app}"}},
        only(200, "admin", "scientist", *PARTNERS, hidden_from={"stranger"}),
    ),
    ("POST", f"{API}/jobs"): (
        "/jobs", {"json": {"federation": "hearts", "app": "{app}"}},
        only(201, "admin", "scientist", *PARTNERS, hidden_from={"stranger"}),
    ),
    ("GET", f"{API}/queue"): ("/queue", {}, LISTED),
    ("GET", f"{API}/queue/history"): (f"/queue/history?id={JOB}/1", {}, SEEN_IN_FEDERATION),
    ("GET", f"{API}/jobs"): ("/jobs", {}, LISTED),
    ("GET", f"{API}/jobs/{{job}}"): (f"/jobs/{JOB}", {}, SEEN_IN_FEDERATION),
    ("POST", f"{API}/jobs/{{job}}:cancel"): (
        f"/jobs/{JOB}:cancel", {}, only(200, "root", "admin", "scientist", hidden_from={"stranger"}),
    ),
    ("GET", f"{API}/jobs/{{job}}/events"): (f"/jobs/{JOB}/events", {}, SEEN_IN_FEDERATION),
    ("GET", f"{API}/jobs/{{job}}/rounds"): (f"/jobs/{JOB}/rounds", {}, SEEN_IN_FEDERATION),
    ("GET", f"{API}/jobs/{{job}}/logs"): (f"/jobs/{JOB}/logs", {}, only(200, *MINE, hidden_from={"stranger"})),
    ("GET", f"{API}/models"): ("/models", {}, LISTED),
    ("GET", f"{API}/models/{{tenant}}/{{model}}"): ("/models/north/heart", {}, SEEN_IN_FEDERATION),
    ("POST", f"{API}/models/{{tenant}}/{{model}}:import"): (
        "/models/north/lung:import?format=safetensors",
        {"content": "model", "headers": {"Content-Type": "application/octet-stream"}},
        only(201, "admin", "scientist", hidden_from=OUTSIDE),
    ),
    ("PUT", f"{API}/models/{{tenant}}/{{model}}/aliases/{{alias}}"): (
        "/models/north/heart/aliases/of-{caller}", {"json": {"version": 2, "expected_generation": 0}},
        only(200, "admin", "scientist", hidden_from=OUTSIDE),
    ),
    ("GET", f"{API}/deployments"): ("/deployments", {}, LISTED),
    ("GET", f"{API}/models/{{tenant}}/{{model}}/versions/{{version}}"): (V2, {}, SEEN_IN_FEDERATION),
    ("GET", f"{API}/models/{{tenant}}/{{model}}/versions/{{version}}/manifest"): (f"{V2}/manifest", {}, SEEN_IN_FEDERATION),
    ("GET", f"{API}/models/{{tenant}}/{{model}}/versions/{{version}}/blobs/{{digest}}"): (
        f"{V2}/blobs/{{blob}}", {}, only(200, "admin", "scientist", *PARTNERS, hidden_from={"stranger"}),
    ),
    ("POST", f"{API}/models/{{tenant}}/{{model}}/versions/{{version}}:deploy"): (
        f"{V2}:deploy", {}, only(200, "admin", "scientist", *PARTNERS, hidden_from={"stranger"}),
    ),
}  # fmt: skip


def routes() -> list[tuple[str, str]]:
    app = create_app(None)  # type: ignore[arg-type]  # no request is made
    return [
        (method, route.path) for route in app.routes if isinstance(route, APIRoute) for method in sorted(route.methods)
    ]


def test_every_route_has_a_row_and_every_row_a_route():
    assert set(routes()) == set(ROWS)


def filled(value, words: dict[str, str]):
    if isinstance(value, dict):
        return {key: filled(item, words) for key, item in value.items()}
    if isinstance(value, str):
        for word, meaning in words.items():
            value = value.replace(f"{{{word}}}", meaning)
    return value


@pytest.mark.parametrize(("method", "path"), ROWS, ids=lambda p: p)
async def test_a_route_answers_each_caller_as_the_table_says(world, method, path):
    url, options, expected = ROWS[method, path]
    async with world.client("admin") as admin:
        manifest = (await admin.get(f"{API}{V2}")).json()["manifest"]
        tokens = (await admin.get(f"{API}/tenants/north/tokens")).json()["items"]
    envelope = await world.services.blobs.get_bytes("north", manifest, limit=1 << 20)
    words = {
        "app": world.app,
        "blob": _weights(envelope),
        "token": next(t["id"] for t in tokens if t["role"] == "auditor"),
    }
    bodies = {"app": app_archive(world.folder / "mine"), "model": safetensors()}
    # Those who are refused come first: what the others do must not open anything to them.
    order = sorted(expected, key=lambda who: (expected[who] < 300, who == "partner_admin", who == "admin"))
    found = {}
    for who in order:
        request = filled(options, words | {"caller": who.replace("_", "-")})
        if "content" in request:
            request["content"] = bodies[request["content"]]
        target = filled(
            url if path.startswith(("/healthz", "/readyz")) else API + url, words | {"caller": who.replace("_", "-")}
        )
        async with world.client(None if who == "nobody" else who) as client:
            answer = await client.request(method, target, **request)
        found[who] = answer.status_code
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == answer.status_code
    assert found == expected


def test_every_kind_of_caller_is_in_the_table():
    assert set(CALLERS) == EVERYBODY


def _weights(envelope: bytes) -> str:
    return read_unverified(envelope).blobs["weights"].digest
