"""``hansa tenant …``: organisations and their tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from common.cli.output import ago, field
from common.cli.session import session

app = typer.Typer(no_args_is_help=True, help="Organisations, their API tokens and join tokens.")
Name = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's id, a slug.")]


@app.command()
def add(name: Name, title: Annotated[str, typer.Option(help="Full name, for people.")] = "") -> None:
    """Create a tenant."""
    now = session()
    created = now.client.tenants.create(name, title)
    now.out.record(created, [("tenant", field("id")), ("title", field("title")), ("created", field("created_at"))])
    now.out.next(f"hansa tenant token {name} --role tenant_admin --subject WHO")


@app.command()
def ls() -> None:
    """List the tenants you may see."""
    now = session()
    columns = [("TENANT", field("id")), ("TITLE", field("title")), ("AGE", ago("created_at", now.now))]
    now.out.rows(now.client.tenants.list(), columns, empty="no tenants yet; add one with: hansa tenant add NAME")


@app.command()
def show(name: Name) -> None:
    """Show a tenant and its API tokens."""
    now = session()
    tenant, tokens = now.client.tenants.get(name), now.client.tenants.tokens(name)
    if now.out.as_json:
        now.out.json({**tenant, "tokens": list(tokens)})
        return
    now.out.record(tenant, [("tenant", field("id")), ("title", field("title")), ("created", field("created_at"))])
    now.out.rows(
        tokens,
        [
            ("TOKEN", field("id")),
            ("ROLE", field("role")),
            ("SUBJECT", field("subject")),
            ("EXPIRES", ago("expires_at", now.now)),
            ("REVOKED", field("revoked")),
        ],
        empty="no API tokens",
    )


@app.command()
def token(
    name: Name,
    role: Annotated[str, typer.Option(help="tenant_admin, scientist, auditor or platform_admin.")] = "scientist",
    subject: Annotated[str, typer.Option(help="Who will use it.")] = "cli",
    days: Annotated[int, typer.Option(min=0, help="Valid for so many days; 0 = no end.")] = 90,
    revoke: Annotated[str, typer.Option(metavar="TOKEN_ID", help="Revoke this token instead.")] = "",
) -> None:
    """Create an API token; its text goes to stdout and is shown this once."""
    now = session()
    if revoke:
        now.client.tenants.revoke_token(name, revoke)
        now.out.say(f"revoked {revoke}")
        return
    made = now.client.tenants.create_token(name, role, subject, days * 86400 if days else None)
    if now.out.as_json:
        now.out.json(made)
        return
    now.out.say(f"{role} token {made['id']} for {subject} at {name}; keep it, it is not shown again:")
    now.out.text(made["token"])
    now.out.next(f"hansa login --url {now.client.url} --token-file FILE --ca FILE")


@app.command("join-token")
def join_token(
    name: Name,
    node: Annotated[str, typer.Option(help="The node's name; else the node says it, else the tenant's.")] = "",
    hours: Annotated[float, typer.Option(min=0.01, max=168, help="Valid for so many hours.")] = 1.0,
) -> None:
    """Create a one-use permission for a node to join; the command to run there goes to stdout."""
    now = session()
    made = now.client.tenants.create_join_token(name, node, int(hours * 3600))
    if now.out.as_json:
        now.out.json(made)
        return
    now.out.say(f"run this at the node before {made['expires_at']}:")
    now.out.text(made["command"])
