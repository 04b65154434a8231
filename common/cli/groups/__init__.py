"""The command groups that belong to no side."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from common.cli.explain import explain
from common.cli.groups import apps, federations, jobs, login, models, nodes, tenants
from common.cli.local.commands import demo, up
from common.cli.newapp import new
from common.cli.simulate import simulate


def own_commands() -> typer.Typer:
    """Return the root command with every group of this package."""
    root = typer.Typer(
        no_args_is_help=True, help="Hansa: an operating system for federated AI.", rich_markup_mode="markdown"
    )
    root.callback()(_root)
    root.command()(demo)
    root.command()(up)
    root.command()(simulate)
    root.command()(new)
    root.command()(explain)
    root.command()(login.login)
    root.add_typer(login.contexts, name="context")
    root.add_typer(tenants.app, name="tenant")
    root.add_typer(federations.app, name="federation")
    root.add_typer(nodes.app, name="nodes")
    root.add_typer(apps.app, name="app")
    root.add_typer(jobs.app, name="job")
    root.add_typer(models.app, name="model")
    root.add_typer(models.deployments, name="deployments")
    return root


def _root(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the release and exit.", is_eager=True, callback=lambda on: _version(on)),
    ] = False,
) -> None:
    """Train models together without sharing data."""
    del show_version


def _version(on: bool) -> None:
    if on:
        typer.echo(version("hansa"))
        raise typer.Exit
