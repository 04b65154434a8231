"""The entry point: builds the commands, runs one, turns errors into words and exit codes.

Commands of the coordinator and of the node come through the entry points "hansa.commands"; they are loaded only when
asked for, so that ``hansa job ls`` pays for neither.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

import click
import typer
import typer.core

from common.cli import failures
from common.cli.groups import own_commands
from common.cli.options import add_shared_flags
from common.cli.session import Session
from common.errors import PlatformError

_SIDES = ("coordinator", "client_node", "common", "policies")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit with its code."""
    typer.core.HAS_RICH = sys.stdout.isatty()  # drawn help is for people; a pipe gets plain lines, sooner
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Run the command of ``argv`` and return its exit code."""
    session = Session()
    try:
        result = build(argv).main(args=list(argv), prog_name="hansa", obj=session, standalone_mode=False)
    except PlatformError as error:
        print(failures.in_json(error) if session.as_json else failures.in_words(error), file=sys.stderr)
        return failures.exit_code_of(error)
    except click.UsageError as error:
        error.show()
        return failures.USAGE
    except click.ClickException as error:
        error.show()
        return failures.ERROR
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        return failures.INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`hansa job ls | head`); what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failures.OK
    return result if isinstance(result, int) else failures.OK


def build(argv: Sequence[str]) -> click.Command:
    """Return the whole command; the sides' own commands only if ``argv`` may need them."""
    own = typer.main.get_command(own_commands())
    if not isinstance(own, click.Group):
        raise TypeError("the root command must be a group")
    add_shared_flags(own)
    asked = next((word for word in argv if not word.startswith("-")), "")
    if asked in own.commands or "--version" in argv:
        return own
    found = entry_points(group="hansa.commands")
    named = [entry for entry in found if entry.name == asked]  # an entry point is called as its command
    for entry in named or found:
        for name, command in _foreign(entry).items():
            own.commands.setdefault(name, command)
    return own


def _foreign(entry: EntryPoint) -> dict[str, click.Command]:
    """Return the commands of one side; none, if what it needs is not installed here."""
    app = typer.Typer()
    app.callback()(lambda: None)
    try:
        entry.load()(app)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in _SIDES:
            raise
        return {entry.name: _missing(entry.name, error.name or "")}
    group = typer.main.get_command(app)
    return dict(group.commands) if isinstance(group, click.Group) else {}


def _missing(side: str, module: str) -> click.Command:
    def explain() -> None:
        raise click.ClickException(
            f"`hansa {side}` needs {module}, which is not installed here: pip install 'hansa[{side}]'"
        )

    return click.Command(
        side,
        callback=explain,
        help=f"Not installed: pip install 'hansa[{side}]'",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


if __name__ == "__main__":
    main()
