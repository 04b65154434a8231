"""Every code that Hansa can raise is explained by `hansa explain`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.cli.codes import meanings
from common.errors import PlatformError
from coordinator.api import problems

ROOT = Path(__file__).parents[3]
_RAISERS = {"Denial": 0, "Fault": 0, "Farewell": 0, "problem": 1, "disconnect": 1}  # which argument is the code


def texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield node.value


def codes_in(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["code"]:
            yield from texts(node.value)
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name != "UploadResult":  # its code says how an accepted update was taken
            for keyword in node.keywords:
                if keyword.arg in {"code", "reason"}:
                    yield from texts(keyword.value)
        if name in _RAISERS and len(node.args) > _RAISERS[name]:
            yield from texts(node.args[_RAISERS[name]])


def classes(kind: type[PlatformError]) -> Iterator[type[PlatformError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from classes(each)


@pytest.mark.parametrize("top", ["common", "coordinator", "client_node", "policies"])
def test_every_code_in_the_source_is_explained(top: str) -> None:
    found = {code for path in (ROOT / top).rglob("*.py") for code in codes_in(path.read_text())}
    assert found - meanings().keys() == set()


def test_every_class_of_error_and_every_answer_of_the_framework_is_explained() -> None:
    codes = {kind.code for kind in classes(PlatformError)} | set(problems._CODES.values())
    assert codes - meanings().keys() == set()


def test_the_source_is_really_read() -> None:
    found = {code for path in (ROOT / "coordinator").rglob("*.py") for code in codes_in(path.read_text())}
    assert {"join_token_used", "missing_imports", "not_placeable", "internal_error", "node_revoked"} <= found
