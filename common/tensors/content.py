"""Objects (one RecordDict each, see ``common.child.frames``) written by a node or a child, read without trust.

Pure but for ``read_content``, which preads the header.  The data is never touched here: whether values are finite is
for the reader of the data to say.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from common.child.frames import object_header
from common.errors import BadUpdate
from common.tensors.safe import ContentLimits, SafeTensor, check_name, parse_table, read_head, strict_json

__all__ = ["Content", "ContentLimits", "TensorEntry", "build_header", "parse_content", "read_content"]

ARRAY, METRIC, CONFIG = "array", "metric", "config"
_DEFAULT = ContentLimits()
MetricValue = int | float | list[int] | list[float]


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a record; ``offset`` is absolute in the object."""

    record: str
    key: str
    dtype: str
    shape: tuple[int, ...]
    offset: int  # bytes
    nbytes: int

    @property
    def name(self) -> str:
        """Return the tensor's name in the object."""
        return f"{self.record}/{self.key}"


@dataclass(frozen=True)
class Content:
    """What an object holds, its data aside.  ``tensors`` are in record order, whatever their order in the data."""

    records: tuple[tuple[str, str], ...]  # (name, "array" | "metric" | "config")
    tensors: tuple[TensorEntry, ...]
    metrics: dict[str, dict[str, MetricValue]]
    configs: dict[str, dict[str, Any]]
    data_offset: int
    size: int
    foreign: frozenset[str] = frozenset()  # tensors that are an app's own serialisation, bytes and no numbers

    def signature(self) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """Return (name, dtype, shape) of the tensors, in order."""
        return tuple((t.name, t.dtype, t.shape) for t in self.tensors)

    def in_data_order(self) -> bool:
        """Say whether the tensors lie in the data in record order."""
        return all(a.offset <= b.offset for a, b in pairwise(self.tensors))


def read_content(fd: int, size: int, limits: ContentLimits = _DEFAULT) -> Content:
    """Return what the object of ``size`` bytes behind ``fd`` holds; only its header is read.

    Raises:
        BadUpdate: it is no well-formed object within ``limits``.
    """
    return parse_content(read_head(fd, size, limits), size, limits)


def parse_content(head: bytes, size: int, limits: ContentLimits = _DEFAULT, *, base: str = "") -> Content:
    """Return what an object of ``size`` bytes that begins with ``head`` (its whole header) holds.

    Args:
        head: The header.
        size: Bytes of it and of the data, wherever that is.
        limits: What it may be at most.
        base: Digest of the object whose data it must rest on; "" = it must have its own.

    Raises:
        BadUpdate: it is no well-formed object within ``limits``.
    """
    table = parse_table(head, size, limits)
    named = {"hansa", "base"} if base else {"hansa"}
    if table.metadata.keys() != named or table.metadata.get("base", "") != base:
        raise BadUpdate(f"an object's metadata must hold exactly {' and '.join(sorted(named))}")
    listing = strict_json(table.metadata["hansa"], "the record list")
    rows = listing.get("records")
    foreign = listing.get("foreign", {})
    if not listing.keys() <= {"records", "foreign"} or not isinstance(rows, list) or not isinstance(foreign, dict):
        raise BadUpdate("the record list must hold 'records', perhaps 'foreign', and nothing else")
    reader = _Reader({t.name: t for t in table.tensors}, limits.values)
    for row in rows:
        reader.take(row)
    if reader.left:
        raise BadUpdate(f"tensor {next(iter(reader.left))[:80]!r} belongs to no record")
    return Content(
        tuple(reader.records),
        tuple(reader.tensors),
        reader.metrics,
        reader.configs,
        table.data_offset,
        table.size,
        frozenset(foreign),
    )


def build_header(
    records: Sequence[tuple[str, str]],
    tensors: Iterable[tuple[str, str, str, tuple[int, ...], int]],
    metrics: Mapping[str, Mapping[str, Any]],
    configs: Mapping[str, Mapping[str, Any]],
) -> bytes:
    """Return the header of an object whose data holds ``tensors`` one behind the other.

    Args:
        records: (name, kind) in order.
        tensors: (record, key, dtype, shape, bytes) in the order of the data.
        metrics: Values of each metric record.
        configs: Values of each config record; bytes allowed.
    """
    rows = list(tensors)
    keys: dict[str, list[str]] = {}
    for record, key, *_ in rows:
        keys.setdefault(record, []).append(key)
    listing: list[list[Any]] = []
    for name, kind in records:
        if kind == ARRAY:
            listing.append([name, kind, keys.get(name, [])])
        else:
            values = metrics[name] if kind == METRIC else configs[name]
            listing.append([name, kind, {k: _encode(v) for k, v in values.items()}])
    entries = ((f"{record}/{key}", dtype, shape, size) for record, key, dtype, shape, size in rows)
    return object_header(entries, {"hansa": json.dumps({"records": listing}, separators=(",", ":"))})


class _Reader:
    """Takes the record list apart, row by row; every tensor is claimed once."""

    def __init__(self, tensors: dict[str, SafeTensor], values: int) -> None:
        self.left = tensors
        self._values = values
        self._names: set[str] = set()
        self.records: list[tuple[str, str]] = []
        self.tensors: list[TensorEntry] = []
        self.metrics: dict[str, dict[str, MetricValue]] = {}
        self.configs: dict[str, dict[str, Any]] = {}

    def take(self, row: object) -> None:
        if not isinstance(row, list) or len(row) != 3:
            raise BadUpdate("a record must be [name, kind, keys or values]")
        name, kind, body = row
        check_name(name, "record name")
        if name in self._names:
            raise BadUpdate(f"record {name[:80]!r} is given twice")
        self._names.add(name)
        self._count(1)
        if kind == ARRAY:
            self._arrays(name, body)
        elif kind == METRIC:
            self.metrics[name] = {k: self._metric(k, v) for k, v in self._table(body)}
        elif kind == CONFIG:
            self.configs[name] = {k: self._config(k, v) for k, v in self._table(body)}
        else:
            raise BadUpdate(f"record {name[:80]!r} has the unknown kind {str(kind)[:20]!r}")
        self.records.append((name, kind))

    def _arrays(self, record: str, keys: object) -> None:
        if not isinstance(keys, list):
            raise BadUpdate(f"array record {record[:80]!r} must list its keys")
        for key in keys:
            # A key may be empty or hold slashes; the joined name decides, and each name is claimed once.
            tensor = self.left.pop(f"{record}/{key}", None) if isinstance(key, str) else None
            if tensor is None:
                raise BadUpdate(f"record {record[:80]!r} names the tensor {str(key)[:80]!r} twice, or there is none")
            self.tensors.append(TensorEntry(record, key, tensor.dtype, tensor.shape, tensor.offset, tensor.nbytes))

    def _table(self, body: object) -> Iterable[tuple[str, object]]:
        if not isinstance(body, dict):
            raise BadUpdate("a metric or config record must be an object of values")
        for key in body:
            check_name(key, "key")
        self._count(len(body))
        return body.items()

    def _metric(self, key: str, value: object) -> MetricValue:
        values = value if isinstance(value, list) else [value]
        if len({type(v) for v in values} | {int, float}) != 2:  # by type(), which keeps bool out
            raise BadUpdate(f"metric {key[:80]!r} must be a number or a list of numbers")
        if any(type(v) is int and not -(2**63) <= v < 2**63 for v in values):  # as in Flower; no float holds any int
            raise BadUpdate(f"metric {key[:80]!r} holds a whole number of more than 64 bits")
        if isinstance(value, list):
            self._count(len(value))
        return value  # type: ignore[return-value]  # narrowed above

    def _config(self, key: str, value: object) -> object:
        if isinstance(value, list):
            self._count(len(value))
            return [_scalar(key, v) for v in value]
        return _scalar(key, value)

    def _count(self, more: int) -> None:
        self._values -= more
        if self._values < 0:
            raise BadUpdate("more metric and config values than the limit allows")


def _scalar(key: str, value: object) -> bool | int | float | str | bytes:
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadUpdate(f"config {key[:80]!r} is not base64") from error
    raise BadUpdate(f"config {key[:80]!r} must be a scalar, bytes or a list of them")


def _encode(value: object) -> object:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    return [_encode(v) for v in value] if isinstance(value, list) else value
