"""Printing: data to stdout (tables for people, JSON for programs), talk to stderr.

What comes from a server may have been written by a tenant, so control characters never reach a terminal.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TextIO

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
Column = tuple[str, Callable[[Mapping[str, object]], object]]


def clean(text: str) -> str:
    """Return ``text`` without what would move a terminal's cursor, retitle it, or reorder what is read."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", _COLOUR.sub("", text))


def cell(value: object) -> str:
    """Return ``value`` as people read it in a table, on one line."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{cell(key)} {cell(item)}" for key, item in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value) or "-"
    return clean(str(value)).replace("\n", " ").replace("\t", " ")


def field(name: str) -> Callable[[Mapping[str, object]], object]:
    """Return a getter of one field, for a column."""
    return lambda row: row.get(name)


def ago(name: str, now: float) -> Callable[[Mapping[str, object]], object]:
    """Return a getter of an ISO time as an age, for a column."""
    return lambda row: age(row.get(name), now)


def age(moment: object, now: float) -> str:
    """Return how long before ``now`` an ISO 8601 moment was: ``12s``, ``5m``, ``3h``, ``9d``; ``in 5m`` if ahead."""
    if not isinstance(moment, str):
        return "-"
    try:
        seconds = now - datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return cell(moment)
    size = abs(seconds)
    for limit, unit, sign in ((120.0, 1.0, "s"), (7200.0, 60.0, "m"), (172_800.0, 3600.0, "h")):
        if size < limit:
            text = f"{int(size // unit)}{sign}"
            break
    else:
        text = f"{int(size // 86400)}d"
    return text if seconds > -1 else f"in {text}"


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of columns padded to their widest cell: what a pipe gets instead of a drawn table."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in (header, *rows)
    ]


@dataclass
class Output:
    """Where and how to print.

    Args:
        as_json: Print data as JSON.
        out: Takes data.
        err: Takes talk.
    """

    as_json: bool = False
    out: TextIO = dataclasses.field(default_factory=lambda: sys.stdout)
    err: TextIO = dataclasses.field(default_factory=lambda: sys.stderr)

    @property
    def colourful(self) -> bool:
        """Whether stdout is a terminal that wants colours (https://no-color.org)."""
        return self.out.isatty() and not os.environ.get("NO_COLOR")

    @property
    def live(self) -> bool:
        """Whether a progress line may be redrawn on stderr."""
        return self.err.isatty() and not self.as_json and os.environ.get("TERM") != "dumb"

    def json(self, value: object) -> None:
        """Print ``value`` as one JSON document."""
        print(json.dumps(value, indent=2, ensure_ascii=False), file=self.out, flush=True)

    def line(self, value: object) -> None:
        """Print ``value`` as one line of NDJSON."""
        print(json.dumps(value, separators=(",", ":")), file=self.out, flush=True)

    def text(self, text: str) -> None:
        """Print text that is itself the data (a log, a digest): into a pipe without colours, on a terminal cleaned."""
        print(clean(text) if self.out.isatty() else _COLOUR.sub("", text), file=self.out, flush=True)

    def rows(self, rows: Sequence[Mapping[str, object]], columns: Sequence[Column], *, empty: str = "") -> None:
        """Print a list: a table, or a JSON array; ``empty`` is said on stderr when there is nothing to show."""
        if self.as_json:
            self.json([dict(row) for row in rows])
            return
        if not rows:
            self.say(empty or "nothing to show")
            return
        self.table([name for name, _ in columns], [[cell(get(row)) for _, get in columns] for row in rows])

    def record(self, record: Mapping[str, object], columns: Sequence[Column]) -> None:
        """Print one object: a line a field, or JSON."""
        if self.as_json:
            self.json(dict(record))
            return
        width = max(len(name) for name, _ in columns)
        for name, get in columns:
            print(f"{name.ljust(width)}  {cell(get(record))}", file=self.out)
        self.out.flush()

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
        """Print a drawn table on a terminal, aligned columns elsewhere."""
        if not self.out.isatty():
            print("\n".join(aligned(header, rows)), file=self.out, flush=True)
            return
        # Drawing costs an import that a pipe need not pay for.
        from rich.box import ROUNDED
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=ROUNDED, title=title or None, title_justify="left")
        for name in header:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(Text(text) for text in row))
        Console(file=self.out, no_color=not self.colourful).print(table)

    def say(self, text: str) -> None:
        """Tell the person something."""
        print(clean(text), file=self.err, flush=True)

    def next(self, *commands: str) -> None:
        """Name the commands that come next."""
        if not self.as_json:
            for i, command in enumerate(commands):
                self.say(("Next: " if i == 0 else "      ") + command)
