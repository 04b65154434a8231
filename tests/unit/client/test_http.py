"""The transport: errors, pages, shapes, names that would walk the URL."""

import hashlib
import json

import httpx
import pytest

from common import errors
from common.client import Client

TENANT = {"id": "a", "title": "", "created_at": "2026-01-01T00:00:00.000Z"}


def client(answer):
    return Client("https://hub:1", "hat1_x.y", transport=httpx.MockTransport(answer))


def test_the_token_goes_along_as_a_bearer():
    seen = []
    with client(lambda request: seen.append(request) or httpx.Response(200, json=TENANT)) as hub:
        hub.tenants.get("a")
    assert seen[0].headers["authorization"] == "Bearer hat1_x.y"
    assert seen[0].url.path == "/api/v1/tenants/a"


def test_a_name_cannot_walk_the_url():
    seen = []
    with client(lambda request: seen.append(request.url.raw_path) or httpx.Response(200, json=TENANT)) as hub:
        hub.tenants.get("../nodes?x=1#y")
    assert seen == [b"/api/v1/tenants/..%2Fnodes%3Fx%3D1%23y"]


def test_all_pages_are_read():
    pages = {None: ("p2", ["a", "b"]), "p2": (None, ["c"])}

    def answer(request):
        token, names = pages[request.url.params.get("page_token")]
        return httpx.Response(200, json={"items": [{**TENANT, "id": n} for n in names], "next_page_token": token})

    with client(answer) as hub:
        assert [tenant["id"] for tenant in hub.tenants.list()] == ["a", "b", "c"]


def test_an_answer_without_its_fields_is_another_release():
    with (
        client(lambda _: httpx.Response(200, json={"id": "a"})) as hub,
        pytest.raises(errors.VersionMismatch) as caught,
    ):
        hub.tenants.get("a")
    assert "created_at, title" in caught.value.detail


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"3", b"\xff"])
def test_an_answer_that_is_no_object_is_no_coordinator(body):
    with client(lambda _: httpx.Response(200, content=body)) as hub, pytest.raises(errors.PlatformError):
        hub.tenants.get("a")


def test_a_dead_host_is_unreachable():
    def answer(request):
        raise httpx.ConnectError("refused", request=request)

    with client(answer) as hub, pytest.raises(errors.Unreachable, match="https://hub:1 cannot be reached: refused"):
        hub.whoami()


def test_a_kept_alive_connection_that_died_is_asked_again_for_reads_only():
    calls = []

    def answer(request):
        calls.append(request.method)
        if len(calls) == 1:
            raise httpx.RemoteProtocolError("server disconnected", request=request)
        return httpx.Response(200, json=TENANT)

    with client(answer) as hub:
        assert hub.tenants.get("a")["id"] == "a"
        calls.clear()
        with pytest.raises(errors.Unreachable):
            hub.tenants.create("a")
    assert calls == ["POST"]


@pytest.mark.parametrize("url", ["http://hub:1", "ftp://hub", "hub:1", "", "https://hub:port"])
def test_a_token_never_crosses_a_wire_in_the_clear(url):
    with pytest.raises(errors.BadInput):
        Client(url, "t")


@pytest.mark.parametrize("token", ["a\nX-Evil: 1", "ü", "a b", "\x00"])
def test_a_token_that_is_none_never_becomes_a_header(token):
    with pytest.raises(errors.BadInput):
        Client("https://hub:1", token)


def test_loopback_may_be_plain():
    Client("http://127.0.0.1:1", "t").close()


def test_a_ca_file_that_is_none_is_named(tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(errors.BadInput, match=r"ca\.pem"):
        Client("https://hub:1", "t", tmp_path / "ca.pem")


def test_a_blob_appears_only_with_the_right_digest(tmp_path):
    data = b"x" * 3_000_000
    digest = hashlib.sha256(data).hexdigest()
    with client(lambda _: httpx.Response(200, content=data)) as hub:
        assert hub.models.pull_blob("t", "m", 1, digest, tmp_path / "good").size == len(data)
        with pytest.raises(errors.BadSignature):
            hub.models.pull_blob("t", "m", 1, "0" * 64, tmp_path / "bad")
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


def test_a_submission_that_is_repeated_carries_its_key():
    seen = []

    def answer(request):
        seen.append((request.headers["idempotency-key"], json.loads(request.content)))
        return httpx.Response(409, json={"code": "conflict", "detail": "x", "status": 409})

    with client(answer) as hub, pytest.raises(errors.Conflict):
        hub.jobs.submit("f", "0" * 64, run_config={"a": 1}, idempotency_key="k")
    assert seen == [("k", {"federation": "f", "app": "0" * 64, "tenant": None, "run_config": {"a": 1}})]


def test_an_import_streams_the_file_with_its_length(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"y" * 2_500_000)
    seen = []

    def answer(request):
        seen.append((request.headers["content-length"], len(request.read()), request.url.params["format"]))
        return httpx.Response(403, json={"code": "policy_denied", "detail": "x"})

    with client(answer) as hub, pytest.raises(errors.PolicyDenied):
        hub.models.import_file("t", "m", path, "onnx")
    assert seen == [("2500000", 2_500_000, "onnx")]
