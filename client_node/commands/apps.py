"""``hansa node app …``: which apps may see what is shared."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from client_node.commands.shared import Dir, Federation, Json, changed, looked_at, opened, out, with_dir
from client_node.ports.state import Approval
from common.cli.output import field
from common.cli.session import session
from common.clock import iso
from common.errors import BadInput
from common.ids import digest, slug

app = typer.Typer(help="Apps that this node's steward approved.", no_args_is_help=True)
Digest = Annotated[str, typer.Argument(help="The app's digest, as `hansa job submit` and its scientist show it.")]


@app.command("approve")
def approve(
    app_digest: Digest,
    federation: Federation,
    directory: Dir = None,
    name: Annotated[str, typer.Option("--name", help="A word to know it by.")] = "",
    as_json: Json = False,
) -> None:
    """Let an app, by digest, run on what is shared into a federation."""
    if app_digest == "*":
        raise BadInput(
            "an approval is of one app; any app of a federation is a matter of policy",
            next_step=f"hansa node policy set allow_any_app {federation}",
        )
    approval = Approval(
        slug(federation, what="federation"), digest(app_digest, what="app digest"), session().now, name[:80]
    )
    with opened(directory) as (place, state):
        state.approve(approval)
        shared = any(federation in dataset.federations for dataset in state.datasets())
        changed(place)
    out().say(f"App {app_digest[:12]}… may run on what is shared into federation {federation} here.")
    if not shared:
        out().next(with_dir(f"hansa node dataset share NAME --federation {federation}", directory))


@app.command("ls")
def ls(directory: Dir = None, as_json: Json = False) -> None:
    """List the approved apps."""
    with looked_at(directory) as (_, state):
        rows = [{**asdict(approval), "at": iso(approval.at)} for approval in state.approvals()]
    columns = [(name.upper(), field(name)) for name in ("federation", "app_digest", "name", "at")]
    out().rows(rows, columns, empty="no app is approved; next: hansa node app approve DIGEST --federation FEDERATION")


@app.command("revoke")
def revoke(app_digest: Digest, federation: Federation, directory: Dir = None, as_json: Json = False) -> None:
    """Take an approval back; tasks of the app are stopped."""
    with looked_at(directory) as (place, state):
        state.revoke(federation, digest(app_digest, what="app digest"))
        changed(place)
    out().say(f"App {app_digest[:12]}… may no longer run for federation {federation} here.")
