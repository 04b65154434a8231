"""``hansa explain CODE``."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from common.cli.codes import meanings
from common.cli.failures import exit_code
from common.cli.output import field
from common.cli.session import session
from common.errors import NotFound


def explain(
    code: Annotated[str, typer.Argument(help="A code from an error, a denial or a failed job; all, if not said.")] = "",
) -> None:
    """Say what a code means and what to do about it."""
    now = session()
    if not code:
        rows = [{"code": name, "means": meaning.means} for name, meaning in sorted(meanings().items())]
        now.out.rows(rows, [("CODE", field("code")), ("MEANS", field("means"))])
        return
    wanted = code.lower().replace("-", "_")
    if wanted not in meanings():
        near = difflib.get_close_matches(wanted, meanings(), n=3)
        raise NotFound(
            f"no code {code[:60]!r}", next_step=f"did you mean {' or '.join(near)}?" if near else "hansa explain"
        )
    meaning = meanings()[wanted]
    row = {"code": wanted, "means": meaning.means, "to do": meaning.to_do, "exit code": exit_code(wanted)}
    now.out.record(row, [(name, field(name)) for name in row])
