"""The description of the REST face (OpenAPI), with the refusals as they really are."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from coordinator.api.problems import MEDIA_TYPE
from coordinator.api.schemas import Problem

_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_UNUSED = ("HTTPValidationError", "ValidationError")  # FastAPI's own, which no route of ours answers


def describe_refusals(app: FastAPI) -> None:
    """Let the document say that every refusal is a problem document."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_problems(plain())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    own = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= own.pop("$defs", {}) | {"Problem": own}
    for name in _UNUSED:
        schemas.pop(name, None)
    answers = [
        (int(status), answer)
        for path in document["paths"].values()
        for operation in path.values()
        for status, answer in operation["responses"].items()
    ]
    for status, answer in answers:
        if status >= 400 and "content" not in answer:
            answer["content"] = _PROBLEM
    return document
