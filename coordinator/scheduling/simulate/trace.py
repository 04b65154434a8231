"""A trace of jobs, read from CSV: when each came, whose it was, how many GPUs it held and for how long.

Columns (any order, upper or lower case, others are ignored):

    submit     seconds from any origin, or ISO 8601; rows need no order
    tenant     text; without the column every job is of one tenant
    size       GPUs held at once, all or nothing; a fraction below 1 is a part of one GPU; without the column 1
    duration   seconds on those GPUs; an empty cell falls back to ``rounds``
    rounds     rounds, each as long as the simulated round
    priority   a class (low, normal, high, …), or a number: the higher the earlier
    declared   seconds that the job said it would take at most: the cap of every estimate

Public traces name these in other words (``gpus``, ``vc``, ``submit_time``, …) and units (``_ms``, ``_min``, ``_h``);
see ``NAMES``.  What cannot be read is an error that names line and column; jobs without a GPU are skipped and counted.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from common.errors import BadInput

NAMES: Mapping[str, tuple[str, ...]] = {
    "submit": ("submit", "submit_time", "submitted", "submitted_at", "submitted_time", "submission_time", "arrival",
               "arrival_time", "creation_time", "timestamp", "time"),
    "tenant": ("tenant", "vc", "virtual_cluster", "virtualcluster", "organisation", "organization", "group", "project",
               "account", "queue", "user"),
    "size": ("size", "gpus", "gpu", "gang", "gpu_num", "gpu_count", "num_gpus", "num_gpu", "n_gpus", "gpus_requested"),
    "duration": ("duration", "run_time", "runtime", "service_time", "length", "elapsed"),
    "rounds": ("rounds", "num_rounds", "n_rounds"),
    "priority": ("priority", "class", "klass", "qos", "priority_class"),
    "declared": ("declared", "time_limit", "timelimit", "walltime"),
}  # fmt: skip
UNITS = {"": 1000.0, "s": 1000.0, "sec": 1000.0, "secs": 1000.0, "seconds": 1000.0, "ms": 1.0, "min": 60e3, "h": 3.6e6}
TIMES = ("submit", "duration", "declared")
MOST_MS = 10**14  # 3,000 years; what is beyond is a mistake of unit
MOST_GPUS = 10**9
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class TraceJob:
    """One job of a trace; times in milliseconds from the first submission."""

    id: str  # zero-padded, in the order of submission
    line: int
    tenant: str
    submit_ms: int
    gpus: int  # tasks that must run at once
    milli: int  # of a GPU, each
    length_ms: int
    priority: str
    declared_ms: int | None


@dataclass(frozen=True)
class Trace:
    """The jobs in the order of submission, and what was left out."""

    jobs: tuple[TraceJob, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)  # reason -> rows


@dataclass(frozen=True, slots=True)
class _Column:
    index: int
    title: str
    unit_ms: float


def read_trace(
    lines: Iterable[str], *, round_ms: int, days: tuple[float, float] | None = None, longest_ms: int | None = None
) -> Trace:
    """Return the jobs of a CSV trace.

    Args:
        lines: The file, header first.
        round_ms: Length of a round: what ``rounds`` are multiplied with.
        days: Only jobs submitted in [first, last) days after the first submission of the whole file.
        longest_ms: Cut durations to this.

    Raises:
        BadInput: a line cannot be read; line, column and value are named.
    """
    rows = _rows(lines)
    head = next(rows, None)
    if head is None:
        raise _bad(1, "the file is empty; the first line must name the columns")
    columns = _columns(head[1])
    parsed: list[tuple[float, int, TraceJob]] = []
    skipped: dict[str, int] = {}
    for number, cells in rows:
        if len(cells) != len(head[1]):
            raise _bad(number, f"{len(cells)} cells, but the header has {len(head[1])} columns")
        job = _job(_Row(number, cells, columns), round_ms, longest_ms)
        if job.gpus == 0:
            skipped["without a GPU"] = skipped.get("without a GPU", 0) + 1
        else:
            parsed.append((job.submit_ms, number, job))
    return Trace(_numbered(sorted(parsed, key=lambda entry: entry[:2]), days, skipped), skipped)


def _numbered(
    parsed: list[tuple[float, int, TraceJob]], days: tuple[float, float] | None, skipped: dict[str, int]
) -> tuple[TraceJob, ...]:
    """Return the jobs of the days wanted, numbered, with times from the first of those days."""
    origin = parsed[0][2].submit_ms if parsed else 0
    first = origin + round((days[0] if days else 0.0) * DAY_MS)
    last = origin + round(days[1] * DAY_MS) if days else math.inf
    jobs = [job for _, _, job in parsed if first <= job.submit_ms < last]
    if len(jobs) < len(parsed):
        skipped["outside the days"] = len(parsed) - len(jobs)
    width = len(str(len(jobs)))
    return tuple(
        TraceJob(
            f"j{i:0{width}d}", job.line, job.tenant, job.submit_ms - first, job.gpus, job.milli, job.length_ms,
            job.priority, job.declared_ms,
        )
        for i, job in enumerate(jobs)
    )  # fmt: skip


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of the lines that hold something; comma, semicolon or tab between cells."""
    given = iter(lines)
    first = next(given, "").removeprefix("\ufeff")
    between = max(",;\t", key=first.count)
    reader = csv.reader(_chain(first, given), delimiter=between, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise _bad(max(reader.line_num, 1), f"not CSV: {error}") from error


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _columns(titles: list[str]) -> dict[str, _Column]:
    """Return which cell of a row is what; of several names for one thing, the one that stands first in ``NAMES``."""
    known: dict[str, _Column] = {}
    for index, title in enumerate(titles):
        name = title.lower().replace(" ", "_")
        if name in known:
            raise _bad(1, f"column {title!r} is there twice")
        known[name] = _Column(index, title, 0.0)
    found: dict[str, _Column] = {}
    for thing, names in NAMES.items():
        units = UNITS if thing in TIMES else {"": 0.0}
        wanted = ((f"{name}_{unit}" if unit else name, factor) for name in names for unit, factor in units.items())
        named = next(((known[name], factor) for name, factor in wanted if name in known), None)
        if named:
            found[thing] = _Column(named[0].index, named[0].title, named[1])
    for thing, others in (("submit", ()), ("duration", ("rounds",))):
        if thing not in found and not any(other in found for other in others):
            raise _bad(
                1,
                f"no column for {' or '.join((thing, *others))!s} among: {', '.join(titles)[:200]}",
                f"Name it one of {', '.join(NAMES[thing])}.",
            )
    return found


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    cells: list[str]
    columns: Mapping[str, _Column]

    def text(self, thing: str) -> str:
        column = self.columns.get(thing)
        return self.cells[column.index] if column else ""

    def bad(self, thing: str, why: str) -> BadInput:
        column = self.columns[thing]
        return _bad(self.line, f"column {column.title!r}: {self.text(thing)[:40]!r} {why}")

    def number(self, thing: str) -> float:
        try:
            value = float(self.text(thing).replace("_", "x"))  # Python's 1_000 is no CSV
        except ValueError:
            raise self.bad(thing, "is not a number") from None
        if not math.isfinite(value):
            raise self.bad(thing, "is not a number")
        return value

    def millis(self, thing: str) -> int:
        """Return a time in milliseconds, 0 or more."""
        value = self.number(thing) * self.columns[thing].unit_ms
        if value < 0:
            raise self.bad(thing, "is negative")
        if value > MOST_MS:
            raise self.bad(thing, "is longer than 3,000 years")
        return round(value)


def _job(row: _Row, round_ms: int, longest_ms: int | None) -> TraceJob:
    gpus, milli = _size(row)
    length = _length(row, round_ms)
    declared = row.millis("declared") if row.text("declared") else None
    return TraceJob(
        id="",
        line=row.line,
        tenant=row.text("tenant") or "-",
        submit_ms=_submit(row),
        gpus=gpus,
        milli=milli,
        length_ms=length if longest_ms is None else min(length, longest_ms),
        priority=_priority(row),
        declared_ms=declared,
    )


def _submit(row: _Row) -> int:
    text = row.text("submit")
    try:
        value = row.number("submit") * row.columns["submit"].unit_ms
    except BadInput:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise row.bad("submit", "is neither a number of seconds nor an ISO 8601 time") from None
        value = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000
    if abs(value) > MOST_MS:
        raise row.bad("submit", "is beyond 3,000 years")
    return round(value)


def _size(row: _Row) -> tuple[int, int]:
    """Return (GPUs at once, milli of each)."""
    if not row.text("size"):
        if "size" in row.columns:
            raise row.bad("size", "is empty")
        return 1, 1000
    value = row.number("size")
    if value < 0:
        raise row.bad("size", "is negative")
    if value > MOST_GPUS:
        raise row.bad("size", "is more than a billion GPUs")
    if 0 < value < 1:
        return 1, max(1, round(value * 1000))
    if value != int(value):
        raise row.bad("size", "is neither a whole number of GPUs nor a part of one")
    return int(value), 1000


def _length(row: _Row, round_ms: int) -> int:
    if row.text("duration"):
        return row.millis("duration")
    if not row.text("rounds"):
        raise row.bad("duration" if "duration" in row.columns else "rounds", "is empty, and so is every other length")
    rounds = row.number("rounds")
    if rounds < 0 or rounds != int(rounds):
        raise row.bad("rounds", "is not a whole number of rounds")
    if rounds * round_ms > MOST_MS:
        raise row.bad("rounds", "is longer than 3,000 years")
    return int(rounds) * round_ms


def _priority(row: _Row) -> str:
    """Return the class, lower case; a number as its shortest form."""
    text = row.text("priority").lower()
    try:
        value = float(text) if text else 0.0
    except ValueError:
        return text
    if not math.isfinite(value):
        raise row.bad("priority", "is no number to go by")
    return f"{value:g}" if text else "normal"


def _bad(line: int, why: str, next_step: str = "Correct that line, or leave it out.") -> BadInput:
    return BadInput(f"line {line}: {why}", next_step=next_step, code="bad_trace")
