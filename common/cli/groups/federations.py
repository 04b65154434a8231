"""``hansa federation …``: tenants that agreed to train together."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

from common.cli.output import Column, ago, cell, field
from common.cli.session import session
from common.client.records import Federation


class Mode(StrEnum):
    """How updates leave the nodes, at least."""

    PLAIN = "plain"
    MASK = "mask"


app = typer.Typer(no_args_is_help=True, help="Tenants that agreed to train together.")
Name = Annotated[str, typer.Argument(metavar="FEDERATION", help="The federation's id, a slug.")]
Tenants = Annotated[list[str], typer.Option("--tenant", "-t", help="A tenant to invite; repeat for more.")]
Speaking = Annotated[str, typer.Option("--tenant", "-t", help="For which tenant; needed if the token has several.")]


@app.command()
def create(
    name: Name,
    tenants: Tenants = [],
    title: Annotated[str, typer.Option(help="Full name, for people.")] = "",
    individual_replies: Annotated[
        bool, typer.Option("--individual-replies", help="Let apps see each node's update in the clear.")
    ] = False,
    minimum_mode: Annotated[
        Mode, typer.Option("--minimum-mode", help="mask: updates leave the nodes in masked sums only.")
    ] = Mode.PLAIN,
) -> None:
    """Create a federation and invite tenants; each must accept with its own token."""
    now = session()
    made = now.client.federations.create(
        name, tenants, title=title, individual_replies=individual_replies, minimum_mode=minimum_mode.value
    )
    _show(made)
    now.out.next(*(f"hansa federation accept {name}    # with a token of {t}" for t in _waiting(made)))


@app.command()
def ls() -> None:
    """List the federations you may see."""
    now = session()
    columns: list[Column] = [
        ("FEDERATION", field("id")),
        ("OWNER", field("owner")),
        ("MEMBERS", _members),
        ("AGE", ago("created_at", now.now)),
    ]
    now.out.rows(
        now.client.federations.list(),
        columns,
        empty="no federations; create one: hansa federation create NAME -t TENANT",
    )


@app.command()
def show(name: Name) -> None:
    """Show a federation and where each tenant stands."""
    _show(session().client.federations.get(name))


@app.command()
def accept(name: Name, tenant: Speaking = "") -> None:
    """Accept an invitation for your tenant."""
    now = session()
    _show(now.client.federations.accept(name, tenant or None))
    now.out.next(f"hansa node dataset share DATASET --federation {name}    # at each of your nodes")


@app.command()
def invite(name: Name, tenants: Annotated[list[str], typer.Argument(metavar="TENANT…")]) -> None:
    """Invite more tenants."""
    _show(session().client.federations.invite(name, tenants))


@app.command()
def change(
    name: Name,
    individual_replies: Annotated[
        bool, typer.Option("--individual-replies/--only-means", help="May apps see each node's update in the clear?")
    ],
) -> None:
    """Change what apps may see; if it is more than before, the other tenants must accept again."""
    now = session()
    made = now.client.federations.change(name, individual_replies=individual_replies)
    _show(made)
    now.out.next(*(f"hansa federation accept {name}    # with a token of {t}" for t in _waiting(made)))


@app.command()
def leave(name: Name, tenant: Speaking = "") -> None:
    """Leave with your tenant: its nodes take no more part."""
    _show(session().client.federations.leave(name, tenant or None))


def _show(federation: Federation) -> None:
    columns: list[Column] = [
        ("federation", field("id")),
        ("title", field("title")),
        ("owner", field("owner")),
        ("members", _members),
        ("individual replies", field("individual_replies")),
        ("minimum mode", field("minimum_mode")),
    ]
    session().out.record(federation, columns)


def _members(row: Mapping[str, object]) -> str:
    members = row.get("members")
    listed = members if isinstance(members, list) else []
    return ", ".join(f"{cell(m['tenant'])} ({cell(m['acceptance'])})" for m in listed) or "-"


def _waiting(federation: Federation) -> list[str]:
    return [member["tenant"] for member in federation["members"] if member["acceptance"] == "invited"]
