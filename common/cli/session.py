"""What one run of the command knows: its flags, its context, its client, its output."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.cli.context import Context, Contexts, context_path, load
from common.cli.output import Output
from common.clock import Clock, SystemClock
from common.errors import BadInput

if TYPE_CHECKING:  # the client costs an import that a command at a node need not pay for
    from common.client import Client


@dataclass
class Session:
    """The connection flags as given, and what follows from them.

    A flag wins over its environment variable, and that over the context file; a coordinator given by flag or
    environment never gets the token of another one out of the file.
    """

    url: str | None = None
    token: str | None = None
    ca: Path | None = None
    as_json: bool = False
    clock: Clock = field(default_factory=SystemClock)

    @cached_property
    def out(self) -> Output:
        """Where to print."""
        return Output(as_json=self.as_json)

    @cached_property
    def contexts(self) -> Contexts:
        """What the context file holds."""
        return load(context_path(os.environ))

    @cached_property
    def connection(self) -> Context:
        """Which coordinator, in whose name.

        Raises:
            NotFound: no flag, no variable and no context says so.
            BadInput: a coordinator is given without a token.
        """
        url = self.url or os.environ.get("HANSA_URL", "")
        token = self.token or os.environ.get("HANSA_TOKEN", "")
        ca = str(self.ca or os.environ.get("HANSA_CA", ""))
        if not url:
            saved = self.contexts.get()
            return Context(saved.url, token or saved.token, ca or saved.ca, saved.keys)
        saved = self.contexts.entries.get(self.contexts.current, Context("", ""))
        if saved.url.rstrip("/") == url.rstrip("/"):
            return Context(url, token or saved.token, ca or saved.ca, saved.keys)
        if not token:
            raise BadInput(f"no token for {url}", next_step="add --token TOKEN or set HANSA_TOKEN")
        return Context(url, token, ca)

    @cached_property
    def client(self) -> Client:
        """The client of that coordinator, closed when the command ends."""
        from common.client import Client

        chosen = self.connection
        client = Client(chosen.url, chosen.token, Path(chosen.ca).expanduser() if chosen.ca else None)
        click.get_current_context().find_root().call_on_close(client.close)
        return client

    @property
    def now(self) -> float:
        """UTC seconds."""
        return self.clock.now()


def session() -> Session:
    """Return the session of the command that is running."""
    found: Session | None = click.get_current_context().find_root().find_object(Session)
    if found is None:
        found = Session()
        click.get_current_context().find_root().obj = found
    return found
