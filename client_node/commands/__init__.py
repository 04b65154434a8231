"""``hansa node …``: what people do at a node.  Every command works while the agent runs and while it does not."""

from __future__ import annotations

import typer

from client_node.commands import agent, apps, datasets, leases, policy, service

node = typer.Typer(name="node", help="The node on this machine: join, data, approvals, agent.", no_args_is_help=True)
node.command("join")(agent.join_coordinator)
node.command("run")(agent.run_agent)
node.command("status")(agent.status)
node.command("doctor")(agent.doctor)
node.command("models")(agent.models)
node.command("refusals")(policy.refusals)
node.command("leases")(leases.leases)
node.command("devices")(leases.devices)
node.command("install-service")(service.install_service)
node.command("uninstall")(service.uninstall)
node.add_typer(datasets.app, name="dataset")
node.add_typer(apps.app, name="app")
node.add_typer(policy.app, name="policy")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(node, name="node")
