"""The connection flags and ``--json``, understood behind every command as well as before it.

``hansa job ls --json`` and ``hansa --json job ls`` are the same.  The flags are added to each finished command rather
than to each function, so that no command can forget them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from typer.core import TyperOption

from common.cli.session import Session

LOCAL = frozenset({"simulate", "new", "explain", "up", "demo", "app", "verify"})  # these speak to no coordinator


def add_shared_flags(command: click.Command, *, local: bool = False) -> None:
    """Add the shared flags to ``command`` and everything below it, except where it has a flag of that name."""
    taken = {name for parameter in command.params for name in parameter.opts}
    command.params.extend(
        flag for flag in _flags() if not taken & set(flag.opts) and (not local or flag.name == "json")
    )
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            add_shared_flags(child, local=local or name in LOCAL)


def remember(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    """Put a flag that was given into the session."""
    root = ctx.find_root()
    if root.obj is None:
        root.obj = Session()
    if value is not None and value is not False:
        setattr(root.obj, "as_json" if parameter.name == "json" else str(parameter.name), value)


def _flags() -> list[click.Option]:
    return [
        _flag("--url", help="Coordinator, https://host:port.", metavar="URL"),
        _flag("--token", help="API token.", metavar="TOKEN"),
        _flag("--ca", help="PEM file of the coordinator's CA.", metavar="FILE", type=click.Path(path_type=Path)),
        _flag("--json", help="Data as JSON; streams as one JSON a line.", is_flag=True, default=False),
    ]


def _flag(name: str, **given: Any) -> click.Option:  # noqa: ANN401 - click's own parameters
    return TyperOption(
        param_decls=[name], expose_value=False, callback=remember, rich_help_panel="Connection and output", **given
    )
