"""Requests made from the OpenAPI document, half well formed and half not: every answer is one the document names."""

from __future__ import annotations

import asyncio
import string
from contextlib import AsyncExitStack
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.api.app import create_app
from coordinator.api.settings import ApiSettings
from tests.unit.api.world import JOB, NORTH_NODE, open_world

DOCUMENT = create_app(None).openapi()  # type: ignore[arg-type]  # no request is made
OPERATIONS = sorted((path, method) for path, item in DOCUMENT["paths"].items() for method in item)
# Values that exist, so that some requests come through to the services.
KNOWN = {
    "tenant": ["north", "south"], "site": ["north"], "node": [NORTH_NODE], "federation": ["hearts"], "job": [JOB], "model": ["heart"],
    "version": [1, 2], "alias": ["latest"], "digest": ["a" * 64], "token": ["tok_" + "0" * 16],
}  # fmt: skip
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.none(), max_size=2), st.just("\x00"), st.just("\u202e"), st.just(2**70),
)  # fmt: skip


def resolve(schema: dict) -> dict:
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def values(schema: dict) -> st.SearchStrategy:
    """Return values of ``schema``, and sometimes others."""
    return st.one_of(good(schema), good(schema), JUNK)


def good(schema: dict) -> st.SearchStrategy:
    schema = resolve(schema)
    if "anyOf" in schema:
        return st.one_of([good(part) for part in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object" if "properties" in schema:
            parts = {name: values(part) for name, part in schema["properties"].items()}
            needed = set(schema.get("required", ()))
            return st.fixed_dictionaries(
                {name: part for name, part in parts.items() if name in needed},
                optional={name: part for name, part in parts.items() if name not in needed},
            )
        case "object":
            return st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=8), JUNK, max_size=4)
        case "array":
            return st.lists(values(schema["items"]), max_size=4)
        case "integer":
            return st.integers(schema.get("minimum", -5), min(schema.get("maximum", 10**6), 10**6))
        case "number":
            return st.floats()
        case "boolean":
            return st.booleans()
        case "string" if "pattern" in schema:
            return st.from_regex(schema["pattern"].removesuffix("$") + r"\Z", alphabet=st.characters(codec="ascii"))
        case "string":
            return st.text(max_size=30)
    return JUNK


@st.composite
def requests(draw, path: str, method: str) -> dict:
    operation = DOCUMENT["paths"][path][method]
    url, query, headers = path, {}, {}
    for parameter in operation.get("parameters", ()):
        name, where = parameter["name"], parameter["in"]
        known = KNOWN.get(name, [])
        made = draw(st.one_of(*([st.sampled_from(known)] * 3 if known else []), values(parameter["schema"])))
        if where == "path":
            url = url.replace(f"{{{name}}}", quote(str(made), safe="", errors="replace") or "x")
        elif parameter["required"] or draw(st.booleans()):
            text = (
                "".join(c for c in str(made) if " " <= c <= "~")
                if where == "header"
                else str(made).encode("utf-8", "replace").decode()
            )
            (query if where == "query" else headers)[name] = text
    request = {"method": method.upper(), "url": url, "params": query, "headers": headers}
    content = operation.get("requestBody", {}).get("content", {})
    for kind, part in content.items():
        if kind == "application/json":
            request["json"] = draw(values(part["schema"]))
        else:
            request |= {"content": draw(st.binary(max_size=200)), "headers": headers | {"Content-Type": kind}}
    return request


@pytest.fixture(scope="module")
def send(template, tmp_path_factory):
    """Send a request as an admin of north, who may do most things."""
    folder = tmp_path_factory.mktemp("fuzz") / "world"
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def enter():
            world = await stack.enter_async_context(open_world(template, folder, ApiSettings(joins_per_minute=10**6)))
            return await stack.enter_async_context(world.client("admin"))

        client = runner.run(enter())
        yield lambda request: runner.run(client.request(**request))
        runner.run(stack.aclose())


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_one_the_document_names(send, path, method):
    @settings(
        max_examples=25, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(requests(path, method))
    def check(request):
        try:
            answer = send(request)
        except ValueError as error:  # httpx will not write NaN as JSON
            assert "JSON" in str(error)  # noqa: PT017
            return
        assert str(answer.status_code) in DOCUMENT["paths"][path][method]["responses"], answer.text
        assert answer.status_code < 500
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"

    check()


def test_the_document_is_complete():
    ids = [DOCUMENT["paths"][path][method]["operationId"] for path, method in OPERATIONS]
    assert len(ids) == len(set(ids))
    for path, method in OPERATIONS:
        operation = DOCUMENT["paths"][path][method]
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"]
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path" and parameter["schema"]["type"] == "string":
                assert parameter["schema"]["pattern"]
        if path.startswith("/api/v1") and path not in {"/api/v1/ca", "/api/v1/join"}:
            assert operation["security"] == [{"bearer": []}]
    bodies = [name for name in DOCUMENT["components"]["schemas"] if name.endswith("In")]
    assert bodies
    for name in bodies:
        assert DOCUMENT["components"]["schemas"][name]["additionalProperties"] is False
