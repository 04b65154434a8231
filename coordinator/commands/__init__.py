"""``hansa coordinator …``, ``hansa schedule …`` and ``hansa capacity``: what stands on the coordinator's own code."""

from __future__ import annotations

import typer

from coordinator.commands import capacity, policies, serve, simulate

coordinator = typer.Typer(name="coordinator", help="The coordinator on this machine.", no_args_is_help=True)
coordinator.callback()(lambda: None)  # keeps ``serve`` a command of its own, even while it is the only one
coordinator.command()(serve.serve)

schedule = typer.Typer(name="schedule", help="Policies, and what they would do with a trace.", no_args_is_help=True)
schedule.command()(simulate.simulate)
schedule.command()(policies.policies)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(coordinator, name="coordinator")
    app.add_typer(schedule, name="schedule")
    app.command()(capacity.capacity)
