"""The command groups that belong to no side."""

from __future__ import annotations

import typer

from common.cli.explain import explain
from common.cli.groups import apps, federations, jobs, login, models, nodes, queue, quotas, tenants
from common.cli.local.commands import demo, up
from common.cli.newapp import new
from common.cli.simulate import simulate


def add_groups(root: typer.Typer) -> None:
    """Add every command of this package to ``root``."""
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
    root.add_typer(quotas.app, name="quota")
    root.add_typer(queue.app, name="queue")
    root.add_typer(apps.app, name="app")
    root.add_typer(jobs.app, name="job")
    root.add_typer(models.app, name="model")
    root.add_typer(models.deployments, name="deployments")
