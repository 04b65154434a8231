"""``--run-config``: values as TOML writes them, as Flower's command takes them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence

import typer

from common.jobspec import Scalar

_PAIR = re.compile(r"""\s*([\w.-]+)\s*=\s*("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'=]+)(?=\s|$)""")


def parse_run_config(given: Sequence[str]) -> dict[str, Scalar]:
    """Return the settings of all ``--run-config`` texts, later ones winning.

    Each text is ``key=value``, or several of them separated by spaces; a value is TOML (``3``, ``0.1``, ``true``,
    ``"text"``), and anything else is taken as text.

    Raises:
        typer.BadParameter: a text is neither.
    """
    config: dict[str, Scalar] = {}
    for text in given:
        config |= _several(text) or _one(text)
    return config


def _several(text: str) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    at = 0
    while match := _PAIR.match(text, at):
        found[match[1]] = _value(match[2])
        at = match.end()
    return found if not text[at:].strip() else {}


def _one(text: str) -> dict[str, Scalar]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise typer.BadParameter(f"{text!r} must be KEY=VALUE", param_hint="--run-config")
    return {key.strip(): _value(value.strip())}


def _value(text: str) -> Scalar:
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text
    return value if isinstance(value, (bool, int, float, str)) else text
