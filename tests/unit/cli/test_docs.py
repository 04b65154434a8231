"""docs/cli.md names every command there is."""

import re
from pathlib import Path

import click

from common.cli.root import build

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()


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
