"""docs/cli.md names every command there is, and nobody is told to type one that is not."""

import ast
import re
from pathlib import Path

import click
import pytest

from common.cli.root import build

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "cli.md").read_text()


def commands(command, name=()):
    if isinstance(command, click.Group):
        for word, child in command.commands.items():
            yield from commands(child, (*name, word))
    else:
        yield name


def documented():
    """Return the commands of the tables' first cells: "`a b` `c`" stands for "a b" and "a c"."""
    for cell in re.findall(r"^\| (`[^|]*`) \|", PAGE, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", cell)
        yield tuple(first.split())
        for other in others:
            yield (*first.split()[:-1], other)


def test_every_command_is_in_the_page_and_nothing_else():
    assert set(documented()) == set(commands(build(["--help"])))


def told(tree):
    """Return the commands in a module's strings, placeholders as capitals: next steps, hints, help."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        yield from re.findall(r"(?<!of )hansa((?: [a-z][a-z-]*)+)(?= [A-Z<…-]|[`;,.\n]|$)", text)


@pytest.mark.parametrize("top", ["common", "coordinator", "client_node", "policies"])
def test_every_command_that_people_are_told_to_type_exists(top):
    known = set(commands(build(["--help"])))
    groups = {name[:n] for name in known for n in range(1, len(name))}
    for path in (ROOT / top).rglob("*.py"):
        for words in told(ast.parse(path.read_text())):
            name = tuple(words.split())
            assert name in groups or any(name[:n] in known for n in range(1, 4)), f"{path}: hansa{words}"
