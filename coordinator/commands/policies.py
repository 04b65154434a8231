"""``hansa schedule policies``: what each policy promises, from the table that the scheduler itself uses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import typer

from common.cli.session import session
from coordinator.scheduling.policies import ABOUT


def as_json_flag(value: bool) -> bool:
    """Print data as JSON from here on."""
    if value:
        session().as_json = True
    return value


Json = Annotated[bool, typer.Option("--json", help="Data as JSON.", callback=as_json_flag, is_eager=True)]


def policies(as_json: Json = False) -> None:
    """List the policies: their numbers, what each promises, and how long anyone can be overtaken."""
    out = session().out
    rows = [
        {
            "policy": name,
            "fair": about.fair,
            "k": about.k,
            "head_starts_s": _finite(about.head_starts_s),
            "half_life_s": about.half_life_s,
            "promise": about.promise,
            "starvation_bound": about.starvation_bound,
        }
        for name, about in ABOUT.items()
    ]
    if as_json:
        out.json(rows)
        return
    for row in rows:
        out.text(f"{row['policy']}\n  promises  {row['promise']}\n  bound     {row['starvation_bound']}")


def _finite(seconds: Mapping[str, float]) -> dict[str, float | str]:
    """JSON has no infinity."""
    return {name: value if math.isfinite(value) else "always first" for name, value in seconds.items()}
