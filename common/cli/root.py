"""The root of the command tree, and which commands grow on it.

Commands of the coordinator and of the node come through the entry points "hansa.commands", each named as its command.
Only what the arguments ask for is imported: a node is set up by a handful of short commands, and most of the time of
such a command would be the imports of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated

import click
import typer

from common.cli.options import add_shared_flags

SIDES = ("coordinator", "client_node", "common", "policies")


def build(argv: Sequence[str]) -> click.Command:
    """Return the command tree that ``argv`` may need."""
    asked = next((word for word in argv if not word.startswith("-")), "")
    sides = entry_points(group="hansa.commands")
    named = [entry for entry in sides if entry.name == asked]
    tree = _group(_root() if named else _own())
    add_shared_flags(tree)
    if named:
        return _with_sides(tree, named)
    return tree if asked in tree.commands or "--version" in argv else _with_sides(tree, list(sides))


def _own() -> typer.Typer:
    from common.cli.groups import add_groups

    root = _root()
    add_groups(root)
    return root


def _root() -> typer.Typer:
    root = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
    root.callback()(_options)
    return root


def _group(root: typer.Typer) -> click.Group:
    command = typer.main.get_command(root)
    if not isinstance(command, click.Group):
        raise TypeError("the root command must be a group")
    return command


def _with_sides(tree: click.Group, sides: Sequence[EntryPoint]) -> click.Group:
    for entry in sides:
        for name, command in _foreign(entry).items():
            tree.commands.setdefault(name, command)
    return tree


def _foreign(entry: EntryPoint) -> dict[str, click.Command]:
    """Return the commands of one side; one that says what to install, if what it needs is not here."""
    app = typer.Typer()
    app.callback()(lambda: None)
    try:
        entry.load()(app)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in SIDES:
            raise
        return {entry.name: _missing(entry.name, error.name or "")}
    return dict(_group(app).commands)


def _missing(side: str, module: str) -> click.Command:
    def explain() -> None:
        raise click.ClickException(
            f"`hansa {side}` needs {module}, which is not installed here: pip install 'hansa[{side}]'"
        )

    return click.Command(
        side,
        callback=explain,
        help=f"Not installed: pip install 'hansa[{side}]'",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


def _options(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the release and exit.", is_eager=True, callback=lambda on: _version(on)),
    ] = False,
) -> None:
    """Hansa: organisations train models together without sharing data."""
    del show_version


def _version(on: bool) -> None:
    if on:
        typer.echo(version("hansa"))
        raise typer.Exit
