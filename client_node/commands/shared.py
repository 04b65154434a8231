"""What all commands of the node share: where the node is, how to print, and calling on the agent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from client_node.adapters.state import SqliteState
from client_node.services.agent_lock import poke_agent
from client_node.services.node_dir import NodeDir, node_dir
from common.cli.output import Output
from common.cli.session import session
from common.errors import NotFound


def _as_json(value: bool) -> bool:
    if value:
        session().as_json = True
    return value


Dir = Annotated[
    Path | None,
    typer.Option("--dir", help="The node's directory.", envvar="HANSA_NODE_DIR", show_default="~/.hansa/node"),
]
Json = Annotated[bool, typer.Option("--json", help="Data as JSON.", callback=_as_json, is_eager=True)]
Federation = Annotated[str, typer.Option("--federation", "-f", help="The federation's id.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def out() -> Output:
    """Return where this command prints."""
    return session().out


@contextmanager
def opened(given: Path | None) -> Iterator[tuple[NodeDir, SqliteState]]:
    """Open the node's memory; the directory is made if it is not there, so that data may come before joining."""
    place = node_dir(given)
    place.prepare()
    state = SqliteState(place.database)
    try:
        yield place, state
    finally:
        state.close()


@contextmanager
def looked_at(given: Path | None) -> Iterator[tuple[NodeDir, SqliteState]]:
    """Open the memory of a node that is there; nothing is made.

    Raises:
        NotFound: the directory is no node's.
    """
    place = node_dir(given)
    if not (place.identity_file.exists() or place.database.exists()):
        step = with_dir("hansa node join https://HOST:PORT --token TOKEN", given)
        raise NotFound(f"{place.root} is no node's directory", next_step=f"{step} (or name the right one with --dir)")
    with opened(given) as found:
        yield found


def changed(place: NodeDir) -> None:
    """Let the running agent know that something changed."""
    if not poke_agent(place.lock):
        out().say("The agent is not running; it will see this when it starts.")


def with_dir(command: str, given: Path | None) -> str:
    """Return a command to type next, with ``--dir`` if this one had it."""
    return f"{command} --dir {given}" if given else command
