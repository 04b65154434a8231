"""The entry point: runs one command, turns errors into words and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click
import typer.core

from common.cli import failures
from common.cli.root import SIDES, build
from common.cli.session import Session
from common.errors import PlatformError

EXTRAS = ("coordinator", "node")  # of the distribution, named as their commands


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
    except click.ClickException as error:
        error.show()
        return failures.USAGE if isinstance(error, click.UsageError) else failures.ERROR
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in SIDES:
            raise
        extra = next((word for word in argv if word in EXTRAS), "coordinator,node")
        print(
            f"error: this needs {error.name}, which is not installed here: pip install 'hansa[{extra}]'",
            file=sys.stderr,
        )
        return failures.ERROR
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        return failures.INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`hansa job ls | head`); what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failures.OK
    return result if isinstance(result, int) else failures.OK


if __name__ == "__main__":
    main()
