"""Whatever is sent, the answer is a problem document below 500, and never what was sent."""

from __future__ import annotations

import asyncio
import itertools
import json

import httpx
import pytest

from coordinator.api.app import create_app
from coordinator.api.settings import ApiSettings
from tests.unit.api.world import JOB, open_world

API = "/api/v1"
JSON = {"Content-Type": "application/json"}
SECRET = "hunter2-do-not-echo"


@pytest.fixture
async def admin(world):
    async with world.client("admin") as client:
        yield client


def refused(answer: httpx.Response, *statuses: int) -> dict:
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "code", "detail", "errors", "next_step", "reason"}
    assert body["status"] == answer.status_code
    return body


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"7", b'"x"', b"\x00", b"\xff\xfe", b"{}", b'{"id": ',
        b'{"id": "x", "id": NaN}',
        b'{"id": "west", "title": NaN}',
        b'{"id": "we\\u0000st"}',
        b'{"id": "west", "title": "\\ud800"}',
        b'{"\\ud800": 1, "id": "west"}',
        b'{"id": "west", "title": "a\\u0000b"}',
        b'{"id": "west", "' + b"k" * 5000 + b'": 1}',
        b'{"id": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"id": {"$ref": "#"}}',
        b'{"id": ' + b"9" * 10_000 + b"}",
        b'{"id": 1e999}',
        "{\"id\": \"w\u00ebst\"}".encode(),
        "{\"id\": \"\u202ewest\"}".encode(),
        b'{"id": "../../etc"}', b'{"id": "WEST"}', b'{"id": "-west"}', b'{"id": "' + b"w" * 41 + b'"}',
        b'{"id": "west\\n"}',
    ],
)  # fmt: skip
async def test_a_malformed_body_is_refused(world, body):
    async with world.client("root") as root:
        refused(await root.post(f"{API}/tenants", content=body, headers=JSON), 400, 422)


async def test_an_unknown_field_is_refused_by_name_and_without_its_value(admin):
    answer = await admin.post(
        f"{API}/tenants/north/tokens", json={"role": "auditor", "subject": "x", "passwort": SECRET}
    )
    body = refused(answer, 422)
    assert body["errors"][0]["pointer"] == "/body/passwort"
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    "value", [SECRET, [SECRET], {SECRET: SECRET}, {"ttl_s": SECRET}], ids=["text", "list", "key", "field"]
)
async def test_a_value_of_the_wrong_type_is_not_sent_back(admin, value):
    answer = await admin.post(f"{API}/tenants/north/join-tokens", json=value)
    refused(answer, 422)
    assert answer.text.count(SECRET) <= (2 if value == {SECRET: SECRET} else 0)  # a field's name may be shown


@pytest.mark.parametrize(
    "config",
    [
        {"lr": None}, {"lr": [1]}, {"lr": {"x": 1}}, {"lr": 2**64}, {"": 1}, {"l\x00r": 1}, {"lr": "\x00"},
        {"x" * 201: 1}, {"x": "y" * 10_001}, {f"k{i}": i for i in range(1001)}, [], "x", 1,
    ],
    ids=repr,
)  # fmt: skip
async def test_a_run_config_holds_bools_numbers_and_texts_within_limits(admin, config):
    body = {"federation": "hearts", "app": "a" * 64, "run_config": config}
    refused(await admin.post(f"{API}/jobs", json=body), 422)


async def test_a_run_config_keeps_the_kinds_of_its_values(world, admin):
    config = {"flag": True, "whole": 1, "real": 1.0, "text": "1"}
    body = {"federation": "hearts", "app": world.app, "run_config": config}
    answered = (await admin.post(f"{API}/jobs", json=body)).json()["run_config"]
    assert {k: (type(v), v) for k, v in answered.items() if k in config} == {k: (type(v), v) for k, v in config.items()}


@pytest.mark.parametrize(
    "path",
    [
        "/tenants/NORTH", "/tenants/%00", "/tenants/..", "/tenants/%2e%2e%2fx", "/tenants/" + "n" * 41, "/tenants/north%0a",
        "/nodes/node_x", "/jobs/job_1", "/jobs/%ff", "/federations/h%C3%ABarts", "/models/north/heart/versions/0",
        "/models/north/heart/versions/99999999999999999999", "/models/north/heart/versions/1.5",
        "/models/north/heart/versions/2/blobs/" + "A" * 64, "/models/north/heart/versions/2/blobs/" + "0" * 64,
        f"/jobs/{JOB[:-1]}x", "/nope", "/tenants/", "//tenants", "/jobs/" + "j" * 60_000,
    ],
    ids=lambda p: p[:40],
)  # fmt: skip
async def test_an_id_of_impossible_form_does_not_exist(admin, path):
    refused(await admin.get(API + path), 404)


@pytest.mark.parametrize(
    "query",
    [
        "page_size=0", "page_size=201", "page_size=x", "page_size=-1", "page_token=%00", "page_token=!!", "page_token=AAAA",
        "page_token=W10", "page_token=" + "W" * 601, "page_token=WzFd", "page_token=WyJhIiwgImIiLCAiYyJd", "colour=red",
        "page_token=W3RydWVd", "page_token=W05hTl0",
    ],
)  # fmt: skip
async def test_a_malformed_page_is_refused_or_empty(admin, query):
    for path in ("/jobs", "/nodes", f"/jobs/{JOB}/events", "/tenants", "/models", "/deployments"):
        answer = await admin.get(f"{API}{path}?{query}")
        if answer.status_code != 200:  # a token whose key is of the list's kind only begins elsewhere
            refused(answer, 400, 422)


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "}, {"Authorization": "Basic eDp5"},
        {"Authorization": "Bearer hat1_tok_x.y"}, {"Authorization": "Bearer " + "x" * 60_000},
        {"Authorization": b"Bearer \xff\xfe"}, {"Authorization": "Bearer hat1_" + "." * 100},
        {"Authorization": "Bearer hat1_tok_0123456789abcdef." + "s" * 43},
    ],
    ids=lambda h: str(h)[:50],
)  # fmt: skip
async def test_a_bad_bearer_is_refused_with_one_sentence(world, headers):
    async with world.client() as client:
        answer = await client.get(f"{API}/whoami", headers=headers)
    body = refused(answer, 401)
    assert body["detail"] == "the API token is missing, wrong, expired or revoked"
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/json2"]
)
async def test_a_body_of_another_type_is_refused(world, kind):
    async with world.client("root") as root:
        answer = await root.post(f"{API}/tenants", content=b'{"id": "west"}', headers={"Content-Type": kind})
    refused(answer, 415)


async def test_an_archive_must_say_that_it_is_one(admin):
    refused(await admin.post(f"{API}/apps", content=b"PK", headers=JSON), 415)
    refused(await admin.post(f"{API}/apps", content=b"PK", headers={"Content-Type": "application/zip"}), 400)
    refused(await admin.post(f"{API}/apps", headers={"Content-Type": "application/zip"}), 400)


async def test_a_model_that_is_none_is_refused_and_leaves_no_file(world, admin):
    binary = {"Content-Type": "application/octet-stream"}
    for kind, body in itertools.product(("onnx", "safetensors"), (b"", b"\x00" * 7, b"\xff" * 64, b"{}" * 50)):
        refused(await admin.post(f"{API}/models/north/bad:import?format={kind}", content=body, headers=binary), 400)
    refused(await admin.post(f"{API}/models/north/bad:import?format=pickle", content=b"x", headers=binary), 422)
    refused(await admin.post(f"{API}/models/north/bad:import", content=b"x", headers=binary), 422)
    assert list(world.services.blobs.work_dir().iterdir()) == []


async def pieces(count: int, size: int):
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize(
    ("method", "path", "kind", "limit"),
    [
        ("POST", "/tenants", "application/json", "json_bytes"),
        ("POST", "/apps", "application/zip", "app_bytes"),
        ("POST", "/models/north/m:import?format=onnx", "application/octet-stream", "model_bytes"),
        ("POST", "/join", "application/json", "json_bytes"),
    ],
)
async def test_a_body_over_its_limit_is_refused_before_and_while_it_is_read(
    template, tmp_path, method, path, kind, limit
):
    settings = ApiSettings(**{limit: 1000})
    async with open_world(template, tmp_path / "w", settings) as world, world.client("admin") as client:
        said = await client.request(method, API + path, content=b"x" * 1001, headers={"Content-Type": kind})
        refused(said, 413)
        unsaid = await client.request(method, API + path, content=pieces(100, 100), headers={"Content-Type": kind})
        refused(unsaid, 413)
        for lie in ("-1", "x", "9" * 30):
            refused(
                await client.request(
                    method, API + path, content=b"x", headers={"Content-Type": kind, "Content-Length": lie}
                ),
                413,
            )
        assert list(world.services.blobs.work_dir().iterdir()) == []


async def test_nothing_of_a_body_is_read_for_a_caller_who_is_refused(world):
    seen = 0

    async def endless():
        nonlocal seen
        while True:
            seen += 1
            yield b"x" * 1000

    async with world.client() as client:
        answer = await client.post(f"{API}/apps", content=endless(), headers={"Content-Type": "application/zip"})
    refused(answer, 401)
    assert seen == 0


async def test_a_body_that_comes_too_slowly_is_given_up(template, tmp_path):
    async def stuck():
        yield b"{"
        await asyncio.Event().wait()

    async with open_world(template, tmp_path / "w", ApiSettings(body_wait=0.05)) as world, world.client("root") as root:
        refused(await root.post(f"{API}/tenants", content=stuck(), headers=JSON), 408)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/tenants", "GET, POST"),
        ("PATCH", "/tenants/north", "GET"),
        ("GET", "/jobs:plan", "POST"),
        ("PUT", f"/jobs/{JOB}", "GET"),
        ("DELETE", "/tenants/north/tokens/x", "DELETE"),
        ("GET", "/models/north/heart/aliases/latest", "PUT"),
    ],
)
async def test_a_wrong_method_is_told_which_are_right(admin, method, path, allow):
    answer = await admin.request(method, API + path)
    if method in allow:  # a right method with a bad id
        refused(answer, 404)
    else:
        refused(answer, 405)
        assert answer.headers["allow"] == allow


async def test_headers_keep_a_browser_from_using_an_answer(admin):
    for path in ("/whoami", "/nope"):
        headers = (await admin.get(API + path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]


async def test_an_address_that_joins_too_often_is_told_to_wait(template, tmp_path):
    async with open_world(template, tmp_path / "w", ApiSettings(joins_per_minute=6)) as world, world.client() as client:
        body = {"token": "hjt1_x", "csr": "x"}
        answers = [(await client.post(f"{API}/join", json=body)).status_code for _ in range(6)]
        assert answers == [400] * 6
        late = await client.post(f"{API}/join", json=body)
        refused(late, 429)
        assert late.headers["retry-after"] == "10"
        world.clock.advance(10)
        refused(await client.post(f"{API}/join", json=body), 400)


async def test_a_bug_is_answered_without_its_innards(world):
    app = create_app(world.services)

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError(SECRET)

    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://hub.test") as client:
        answer = await client.get("/bug")
    assert answer.status_code == 500
    assert json.loads(answer.text)["code"] == "internal_error"
    assert SECRET not in answer.text
