"""``hansa login`` and ``hansa context …``: which coordinator, in whose name."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from common.cli.context import Context, context_path, save
from common.cli.output import field
from common.cli.session import session
from common.client import Client
from common.errors import BadInput

contexts = typer.Typer(no_args_is_help=True, help="Which coordinator the other commands speak to.")


def login(
    token_file: Annotated[Path | None, typer.Option(help="File that holds the API token; - reads stdin.")] = None,
    name: Annotated[str, typer.Option(help="What to call this context.")] = "default",
    key: Annotated[
        list[str],
        typer.Option("--key", help="Pin this manifest signer, ID=HEX, instead of the coordinator's own; repeatable."),
    ] = [],
) -> None:
    """Check a token with the coordinator and remember both, with --url, --token or --token-file, and --ca."""
    now = session()
    url = now.url or os.environ.get("HANSA_URL", "")
    token = now.token or (_read(token_file) if token_file else os.environ.get("HANSA_TOKEN", ""))
    if not url or not token:
        raise typer.BadParameter("give --url, and --token or --token-file")
    ca = now.ca or (Path(os.environ["HANSA_CA"]) if os.environ.get("HANSA_CA") else None)
    with Client(url, token, ca) as client:
        who = client.whoami()
        signers = dict(map(_pair, key)) or client.ca()["manifest_keys"]
    context = Context(client.url, token, str(ca.resolve()) if ca else "", signers)
    path = context_path(os.environ)
    save(path, now.contexts.having(name, context))
    now.out.say(f"logged in at {client.url} as {who['subject']} ({', '.join(who['roles'])}); kept in {path}")
    if now.out.as_json:
        now.out.json({"context": name, **who})
    now.out.next("hansa nodes ls", "hansa job submit DIR --federation NAME --watch")


@contexts.command()
def ls() -> None:
    """List the contexts."""
    now = session()
    rows = [
        {"name": name, "current": name == now.contexts.current, "url": entry.url, "ca": entry.ca}
        for name, entry in sorted(now.contexts.entries.items())
    ]
    columns = [("NAME", field("name")), ("CURRENT", field("current")), ("URL", field("url")), ("CA", field("ca"))]
    now.out.rows(rows, columns, empty="no contexts; make one with: hansa login --url URL --token-file FILE --ca FILE")


@contexts.command()
def use(name: Annotated[str, typer.Argument(help="The context's name.")]) -> None:
    """Speak to another coordinator from now on."""
    now = session()
    save(context_path(os.environ), now.contexts.using(name))
    now.out.say(f"now using {name} ({now.contexts.get(name).url})")


@contexts.command()
def show() -> None:
    """Show what the next command would use, after flags and environment; the token is not shown."""
    now = session()
    chosen = now.connection
    row = {"url": chosen.url, "ca": chosen.ca, "token": f"{chosen.token.split('.')[0]}.…", "keys": [*chosen.keys]}
    now.out.record(row, [(name, field(name)) for name in row])


def _read(path: Path) -> str:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    return text.strip()


def _pair(text: str) -> tuple[str, str]:
    key_id, _, public = text.partition("=")
    if not key_id or len(public) != 64 or any(c not in "0123456789abcdef" for c in public):
        raise typer.BadParameter(f"{text!r} must be ID=HEX with 64 hex digits", param_hint="--key")
    return key_id, public
