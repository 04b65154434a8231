"""What every stable code means, and what to do about it, read from ``codes.toml`` beside this file."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Meaning(NamedTuple):
    """Of one code."""

    means: str
    to_do: str


@cache
def meanings() -> dict[str, Meaning]:
    """Return the meaning of every code."""
    with (Path(__file__).resolve().parent / "codes.toml").open("rb") as file:
        return {code: Meaning(**entry) for code, entry in tomllib.load(file).items()}
