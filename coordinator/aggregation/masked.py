"""The mean out of a masked sum: what the opened lanes and ring elements stand for.

The sum is exact in the integers that the nodes rounded to; the mean of a float tensor is what was sent out plus the
mean change, in float64 before it is rounded to the tensor's dtype.  Integer and boolean tensors have the very mean
that plain updates would give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import BadUpdate
from common.privacy.layout import WEIGHT, Layout
from common.privacy.quantize import WEIGHT_UNIT, Encoding, decode, mean_metric, mean_whole
from common.tensors.content import Content, build_header
from common.tensors.dtypes import FLOATS, from_float32, itemsize, raw, to_float32
from coordinator.aggregation.verify import Metric, Shape, Sound


@dataclass(frozen=True)
class Segment:
    """A run of one tensor of the folded object: where its elements come from."""

    key: str
    dtype: str
    count: int  # elements
    ring: int | None  # first element in the ring; None = its mean is in the lanes
    base: int | None  # bytes in the object that was sent out; None = nothing was


@dataclass(frozen=True)
class Lanes:
    """What the wide lanes of a sum say."""

    weight: float  # total
    metrics: dict[str, Metric]
    exact: Mapping[str, bytes]  # tensor -> its mean, as the folded object holds it


def shape_of(layout: Layout) -> Shape:
    """Return the layout in the words of plain updates, to say what differs."""
    tensors = tuple((layout.record, t.key, t.dtype, t.shape, t.count * itemsize(t.dtype)) for t in layout.tensors)
    return Shape(layout.record, tensors, layout.metric_record, layout.metrics)


def sound_of(layout: Layout) -> Sound:
    """Return what stands for an update nobody has seen, where layouts are compared."""
    return Sound(shape_of(layout), 1.0, {}, 0, 0)


def open_lanes(layout: Layout, lanes: Sequence[int]) -> Lanes:
    """Return what the opened lanes say.

    Raises:
        BadUpdate: they make no sense: a member sent rubbish.
    """
    units = lanes[0]
    if units <= 0:
        raise BadUpdate("the sum of the sample counts is not over zero: a masked update was rubbish", code="bad_sum")
    rest = iter(lanes[1:])
    metrics: dict[str, Metric] = {WEIGHT: units // WEIGHT_UNIT if units % WEIGHT_UNIT == 0 else units / WEIGHT_UNIT}
    for name, length in layout.metric_slots():
        means = [mean_metric((next(rest), next(rest)), units) for _ in range(1 if length < 0 else length)]
        metrics[name] = means if length >= 0 else means[0]
    exact = {t.key: _exact(t.dtype, [next(rest) for _ in range(t.count)], units) for t in layout.exact}
    return Lanes(units / WEIGHT_UNIT, metrics, exact)


def masked_header(layout: Layout, metrics: Mapping[str, Metric]) -> bytes:
    """Return the header of the folded object: the same as a plain fold's."""
    shape = shape_of(layout)
    records = [(shape.record, "array")] if shape.record else []
    records.append((shape.metric_record, "metric"))
    ordered = {name: metrics[name] for name, _ in layout.metrics}
    return build_header(records, shape.tensors, {shape.metric_record: ordered}, {})


def segments(layout: Layout, sent: Content | None, most: int) -> Iterator[Segment]:
    """Yield the runs that make up the folded object's data, in order; those from the ring are at most ``most`` long."""
    bases = _sent(sent)
    ring = 0
    for tensor in layout.tensors:
        if tensor.dtype not in FLOATS:
            yield Segment(tensor.key, tensor.dtype, tensor.count, None, None)
            continue
        base, size = bases.get((tensor.key, tensor.dtype, tensor.shape)), itemsize(tensor.dtype)
        for at in range(0, tensor.count, most):
            sent_at = None if base is None else base + at * size
            yield Segment(tensor.key, tensor.dtype, min(most, tensor.count - at), ring + at, sent_at)
        ring += tensor.count


def mean_of(
    total: NDArray[Any], base: bytes | memoryview | None, dtype: str, encoding: Encoding, weight: float
) -> bytes:
    """Return the bytes of the mean of a run of float elements.

    Args:
        total: Their opened sum, unsigned, of the ring's width.
        base: The same run of what was sent out; None = zeros.
        dtype: Of the tensor.
        encoding: The attempt's.
        weight: Total sample count.
    """
    mean = decode(total, encoding, weight)
    if base is not None:
        words = np.frombuffer(base, dtype=raw(dtype))
        mean += words if dtype in {"F32", "F64"} else to_float32(words, dtype)
    with np.errstate(over="ignore"):
        if dtype == "F64":
            return mean.tobytes()
        return from_float32(mean.astype(np.float32), dtype).tobytes()


def _exact(dtype: str, totals: Sequence[int], units: int) -> bytes:
    if dtype == "BOOL":
        return np.array([2 * total > units for total in totals], dtype=bool).tobytes()
    info = np.iinfo(raw(dtype))
    means = [min(max(mean_whole(total, units), int(info.min)), int(info.max)) for total in totals]
    return np.array(means, dtype=raw(dtype)).tobytes()


def _sent(content: Content | None) -> dict[tuple[str, str, tuple[int, ...]], int]:
    """Return where each tensor that was sent out lies; the nodes subtracted the very same ones."""
    arrays = [name for name, kind in content.records if kind == "array"] if content is not None else []
    if content is None or len(arrays) != 1:
        return {}
    return {(t.key, t.dtype, t.shape): t.offset for t in content.tensors if t.record == arrays[0]}
