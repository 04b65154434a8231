"""``hansa node policy …``: what the operator allows on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from client_node.adapters.masks import SqliteMasks
from client_node.commands.shared import Dir, Json, changed, looked_at, opened, out
from client_node.settings import FILE, change, load, save
from common.cli.output import Column, field
from common.clock import iso

app = typer.Typer(help="What this node allows, and its limits (settings.toml).", no_args_is_help=True)


@app.command("show")
def show(directory: Dir = None, as_json: Json = False) -> None:
    """Show every setting as it is in force."""
    with looked_at(directory) as (place, _):
        settings = load(place.root)
    values = asdict(settings)
    values["allow_any_app"] = list(settings.allow_any_app)
    shown = [(key, field(key)) for key in values if key != "environments"]
    environments = [f"{name} = {python}" for name, python in sorted(settings.environments.items())]
    out().record(values, [*shown, ("environments", lambda _row: environments)])


def refusals(directory: Dir = None, as_json: Json = False) -> None:
    """Show what the coordinator wanted of this node's masked updates and was refused, newest first."""
    with looked_at(directory) as (_, state):
        rows = [asdict(one) | {"at": iso(one.at)} for one in SqliteMasks(state).refusals()]
    columns: list[Column] = [(name.upper(), field(name)) for name in ("at", "task", "code", "message")]
    out().rows(rows, columns, empty="nothing has been refused")


@app.command("set")
def set_value(
    key: Annotated[str, typer.Argument(help="A setting, or environments.NAME.")],
    value: Annotated[str, typer.Argument(help="Its value; lists with commas; '-' removes an environment.")],
    directory: Dir = None,
    as_json: Json = False,
) -> None:
    """Change one setting.  The running agent takes it up at once, except slots, sandbox and serving_port."""
    with opened(directory) as (place, _):
        save(place.root, change(load(place.root), key, value))
        changed(place)
        out().say(f"{key} is set in {place.root / FILE}.")
    if key in {"slots", "serving_port"}:
        out().next("start the agent anew for this to take effect")
