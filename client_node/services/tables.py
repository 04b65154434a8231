"""What is in a CSV or Parquet file: columns, types, rows.  The values are read and forgotten.

Strict on purpose: a file that tools would read in two ways (ragged rows, doubled names, another encoding) is refused
with the line, because an app would train on whichever way its library chose.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from client_node.ports.state import Column
from common.errors import BadInput, QuotaExceeded

MAX_COLUMNS = 100_000
MAX_FIELD = 1 << 20  # characters of one CSV field
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_INT = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
_BOOL = frozenset({"true", "false"})
_ORDER = ("bool", "int", "float", "string")


@dataclass(frozen=True)
class Table:
    """The shape of a table."""

    format: str
    rows: int
    columns: tuple[Column, ...]


def read_table(path: Path, table_format: str = "") -> Table:
    """Return the shape of the file at ``path``.

    Args:
        path: A regular file.
        table_format: "csv" or "parquet"; empty = by its first bytes and its suffix.

    Raises:
        BadInput: it is no such table, is empty, or is ragged.
        QuotaExceeded: too many columns, or a field too large.
    """
    return _parquet(path) if (table_format or sniff_format(path)) == "parquet" else _csv(path)


def sniff_format(path: Path) -> str:
    """Return "parquet" or "csv" by the first bytes, then by the suffix.

    Raises:
        BadInput: it looks like neither.
    """
    with path.open("rb") as file:
        head = file.read(4)
    if not head:
        raise BadInput(f"{path} is empty")
    if head == b"PAR1":
        return "parquet"
    if path.suffix.lower() in {".csv", ".tsv", ".txt"}:
        return "csv"
    if path.suffix.lower() in {".parquet", ".pq"}:
        raise BadInput(f"{path} is named as Parquet but does not begin with PAR1")
    raise BadInput(
        f"{path} is neither CSV nor Parquet by its name and first bytes", next_step="say which with --format csv"
    )


def _csv(path: Path) -> Table:
    rows = _csv_rows(path)
    header = next(rows, None)
    if header is None:
        raise BadInput(f"{path} is empty")
    names = _header(path, header[1])
    kinds: list[str] = [""] * len(names)
    count = 0
    for line, row in rows:
        if len(row) != len(names):
            raise BadInput(f"{path} line {line} has {len(row)} fields, the header has {len(names)}")
        count += 1
        for index, value in enumerate(row):
            if kinds[index] != "string":
                kinds[index] = _wider(kinds[index], value)
    if count == 0:
        raise BadInput(f"{path} has a header but no rows")
    return Table("csv", count, tuple(Column(n, k or "string") for n, k in zip(names, kinds, strict=True)))


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        yield from _parsed(path)
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} is not UTF-8 text: {error.reason} near byte {error.start}",
            next_step=f"iconv -f latin1 -t utf-8 {path} > {path.stem}-utf8.csv",
        ) from error
    except csv.Error as error:
        if "field larger" in str(error):
            raise QuotaExceeded(f"{path} has a field of over {MAX_FIELD} characters") from error
        raise BadInput(f"{path} is not well-formed CSV: {error}") from error


def _parsed(path: Path) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(MAX_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        delimiter = max(",;\t", key=file.readline(MAX_FIELD).count)
        file.seek(0)
        reader = csv.reader(_text_lines(path, file), delimiter=delimiter, strict=True)
        for row in reader:
            if row:  # blank lines are no rows, for every reader that we know
                yield reader.line_num, row


def _text_lines(path: Path, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if "\0" in line:
            raise BadInput(f"{path} holds NUL bytes; it is no CSV text")
        yield line


def _header(path: Path, cells: list[str]) -> list[str]:
    if len(cells) > MAX_COLUMNS:
        raise QuotaExceeded(f"{path} has {len(cells)} columns, at most {MAX_COLUMNS} are allowed")
    names = [cell.strip() or f"unnamed_{index}" for index, cell in enumerate(cells)]
    doubled = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if doubled:
        raise BadInput(f"{path} names a column twice: {', '.join(doubled[:5])}")
    if all(_FLOAT.fullmatch(cell.strip()) for cell in cells):
        raise BadInput(f"the first line of {path} holds numbers only; it must name the columns")
    return names


def _wider(kind: str, value: str) -> str:
    text = value.strip()
    if text.lower() in _MISSING:
        return kind
    if text.lower() in _BOOL:
        found = "bool"
    elif _INT.fullmatch(text):
        found = "int"
    elif _FLOAT.fullmatch(text):
        found = "float"
    else:
        return "string"
    if not kind or kind == found:
        return found
    if "bool" in {kind, found}:
        return "string"
    return max(kind, found, key=_ORDER.index)


def _parquet(path: Path) -> Table:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise BadInput("reading Parquet needs pyarrow", next_step="pip install 'hansa[node]'") from error
    try:
        with ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (ArrowException, OSError, ValueError) as error:
        raise BadInput(f"{path} is not a readable Parquet file: {str(error)[:200]}") from error
    if len(schema.names) > MAX_COLUMNS:
        raise QuotaExceeded(f"{path} has {len(schema.names)} columns, at most {MAX_COLUMNS} are allowed")
    if rows == 0 or not schema.names:
        raise BadInput(f"{path} has no rows")
    if len(set(schema.names)) < len(schema.names):
        raise BadInput(f"{path} names a column twice")
    return Table("parquet", rows, tuple(Column(f.name, str(f.type)) for f in schema))
