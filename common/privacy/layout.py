"""What a masked sum is made of, and where each part of a reply stands in it.

A reply becomes two vectors.  The *ring* holds the elements of its float tensors, one behind the other, as integers of
16 or 32 bits.  The *wide* lanes hold what must be summed exactly: the sample count first, then two lanes for each
metric value (the value, and whether it was no finite number), then every element of integer and boolean tensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from common.crypto.canonical import canonical, parse_canonical
from common.errors import BadInput, BadUpdate
from common.privacy import wide
from common.tensors.content import Content, build_header
from common.tensors.dtypes import FLOATS, NUMPY

WEIGHT = "num-examples"
MAX_LAYOUT = 4 << 20  # bytes of its canonical JSON
_MAX_ELEMENTS = 1 << 40


@dataclass(frozen=True)
class Tensor:
    """One tensor of a reply."""

    key: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """What the replies of a cohort must have in common."""

    record: str  # the array record, "" = none
    tensors: tuple[Tensor, ...]
    metric_record: str
    metrics: tuple[tuple[str, int], ...]  # (name, length of a list or -1), sorted, the sample count among them

    @cached_property
    def text(self) -> bytes:
        """Canonical JSON."""
        rows = [[t.key, t.dtype, list(t.shape)] for t in self.tensors]
        return canonical(
            {
                "record": self.record,
                "tensors": rows,
                "metric_record": self.metric_record,
                "metrics": [list(metric) for metric in self.metrics],
            }
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def floats(self) -> tuple[Tensor, ...]:
        """The tensors whose elements are in the ring."""
        return tuple(t for t in self.tensors if t.dtype in FLOATS)

    @property
    def exact(self) -> tuple[Tensor, ...]:
        """The tensors whose elements are in wide lanes."""
        return tuple(t for t in self.tensors if t.dtype not in FLOATS)

    @cached_property
    def ring_count(self) -> int:
        """Elements of the ring."""
        return sum(t.count for t in self.floats)

    @cached_property
    def wide_count(self) -> int:
        """Wide lanes."""
        return 1 + 2 * self.metric_count + sum(t.count for t in self.exact)

    @property
    def metric_count(self) -> int:
        """Metric values besides the sample count."""
        return sum(1 if length < 0 else length for name, length in self.metrics if name != WEIGHT)

    def metric_slots(self) -> Iterator[tuple[str, int]]:
        """Yield (name, length or -1) of the metrics besides the sample count, in the order of their lanes."""
        return (metric for metric in self.metrics if metric[0] != WEIGHT)

    def header(self, ring: int) -> bytes:
        """Return the head of the object that carries the two vectors: the same bytes at every node."""
        lanes = (self.wide_count, wide.LIMBS)
        rows = [
            ("masked", "ring", f"U{ring}", (self.ring_count,), self.ring_count * ring // 8),
            ("masked", "wide", "U64", lanes, self.wide_count * wide.BYTES),
        ]
        return build_header([("masked", "array")], rows, {}, {})

    def data_bytes(self, ring: int) -> int:
        """Return the bytes behind the header."""
        return self.ring_count * ring // 8 + self.wide_count * wide.BYTES


def layout_of(content: Content, *, arrays: bool) -> Layout:
    """Return the layout of a reply.

    Args:
        content: Its header.
        arrays: Whether its arrays count (a training reply).

    Raises:
        BadUpdate: it has no mean: several array or metric records, no sample count, an app's own format.
    """
    names = {kind: [n for n, k in content.records if k == kind] for kind in ("array", "metric")}
    if arrays and (len(names["array"]) != 1 or content.foreign or not content.in_data_order()):
        raise BadUpdate("a reply that is summed must hold exactly one array record of plain tensors, in order")
    if len(names["metric"]) != 1 or WEIGHT not in content.metrics[names["metric"][0]]:
        raise BadUpdate(f"a reply that is summed must hold exactly one metric record with {WEIGHT!r}")
    record, metric_record = names["array"][0] if arrays else "", names["metric"][0]
    tensors = tuple(Tensor(t.key, t.dtype, t.shape) for t in content.tensors if arrays and t.record == record)
    metrics = content.metrics[metric_record]
    keys = tuple(sorted((k, len(v) if isinstance(v, list) else -1) for k, v in metrics.items()))
    if dict(keys)[WEIGHT] != -1:
        raise BadUpdate(f"the metric {WEIGHT!r} must be one number")
    return Layout(record, tensors, metric_record, keys)


def parse_layout(text: bytes) -> Layout:
    """Return the layout that a node sent.

    Raises:
        BadInput: it is malformed.
    """
    if len(text) > MAX_LAYOUT:
        raise BadInput(f"a layout of {len(text)} bytes is over the limit of {MAX_LAYOUT}")
    data = parse_canonical(text)
    try:
        layout = Layout(
            _text(data["record"]),
            tuple(_tensor(*row) for row in data["tensors"]),
            _text(data["metric_record"]),
            tuple((_text(name), _whole(length, -1)) for name, length in data["metrics"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"not a layout: {error}") from error
    if layout.text != text or dict(layout.metrics).get(WEIGHT) != -1 or bool(layout.tensors) > bool(layout.record):
        raise BadInput("not a layout")
    if layout.ring_count + layout.wide_count > _MAX_ELEMENTS or len({t.key for t in layout.tensors}) < len(
        layout.tensors
    ):
        raise BadInput("a layout with too many elements, or a tensor given twice")
    return layout


def _tensor(key: object, dtype: object, shape: list[object]) -> Tensor:
    if dtype not in NUMPY:
        raise ValueError(f"unknown dtype {str(dtype)[:20]!r}")
    return Tensor(_text(key), _text(dtype), tuple(_whole(n, 0) for n in shape))


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise TypeError("a name must be text")
    return value


def _whole(value: Any, low: int) -> int:  # noqa: ANN401 - JSON
    if type(value) is not int or not low <= value <= _MAX_ELEMENTS:
        raise ValueError("a length must be a whole number")
    return value
