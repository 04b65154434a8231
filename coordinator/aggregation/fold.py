"""The weighted mean of K updates, one column block at a time, always in the order given.

The mean of a column never looks at another column, so a round's memory is K blocks whatever the model; and because
the sum runs in roster order over the included updates only, neither arrival order nor an excluded update can show.

Arithmetic: ``mean = sum(x_k * (w_k / total))``, as Flower's FedAvg does it.  float32 sums in float32; float16 and
bfloat16 in float32 (float16 sums of 1000 terms are off by percents); float64 in float64.  Integers: ``sum(x_k * w_k) /
total`` in extended precision, rounded half to even, kept in their dtype (a counter must not become a float).  Booleans:
the weighted majority, a tie is False.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.tensors.content import build_header
from common.tensors.dtypes import from_float32, raw, to_float32
from coordinator.aggregation.verify import WEIGHT, Metric, Shape, Sound

Raw = bytes | bytearray | memoryview
Float = type[np.float32] | type[np.float64]
_ACCUMULATOR: dict[str, Float] = {"F64": np.float64, "F32": np.float32, "F16": np.float32, "BF16": np.float32}


class Workspace:
    """Memory of one block in the making, used again: fresh pages cost more than the sum itself."""

    def __init__(self, block_bytes: int) -> None:
        self._mean = bytearray(block_bytes)
        self._part = bytearray(block_bytes)

    def arrays(self, kind: Float, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return two arrays of ``count`` elements; fresh ones if they do not fit."""
        if count * np.dtype(kind).itemsize > len(self._mean):
            return np.empty(count, dtype=kind), np.empty(count, dtype=kind)
        return np.frombuffer(self._mean, kind, count), np.frombuffer(self._part, kind, count)


@dataclass(frozen=True)
class Block:
    """A run of equal dtype inside the data section."""

    dtype: str
    offset: int  # bytes from the first data byte
    nbytes: int


def plan_blocks(shape: Shape, block_bytes: int) -> Iterator[Block]:
    """Yield the blocks that cover the data section, each of one dtype and at most ``block_bytes`` long.

    Neighbours of equal dtype share blocks, so that a model of many small tensors costs as little as one large.
    """
    start, end, dtype = 0, 0, ""
    for _, _, tensor_dtype, _, nbytes in shape.tensors:
        if tensor_dtype != dtype:
            yield from _split(dtype, start, end, block_bytes)
            start, dtype = end, tensor_dtype
        end += nbytes
    yield from _split(dtype, start, end, block_bytes)


def _split(dtype: str, start: int, end: int, block_bytes: int) -> Iterator[Block]:
    if start == end:
        return
    step = max(block_bytes // raw(dtype).itemsize, 1) * raw(dtype).itemsize
    for at in range(start, end, step):
        yield Block(dtype, at, min(step, end - at))


def fold_block(dtype: str, columns: Iterable[Raw], weights: Sequence[float], space: Workspace) -> memoryview:
    """Return the bytes of the weighted mean of the same block of each update, in the order given.

    Args:
        dtype: safetensors name of the block's elements.
        columns: The block's bytes in each update; read one at a time, so that they may share one buffer.
        weights: One positive weight each.
        space: Memory to work in; the returned bytes may lie in it, until its next use.
    """
    total = float(np.sum(np.asarray(weights, dtype=np.float64)))
    words = (np.frombuffer(column, dtype=raw(dtype)) for column in columns)
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype in _ACCUMULATOR:
            mean = _mean_floats(words, [w / total for w in weights], dtype, space)
        elif dtype == "BOOL":
            mean = _majority(words, weights, total)
        else:
            mean = _mean_integers(words, weights, total, dtype)
    return np.ascontiguousarray(mean).data.cast("B")


def all_finite(dtype: str, block: Raw) -> bool:
    """Say whether every value of the block is finite; integers and booleans always are."""
    if dtype not in _ACCUMULATOR:
        return True
    words = np.frombuffer(block, dtype=raw(dtype))
    if dtype == "BF16":
        return bool(((words & 0x7F80) != 0x7F80).all())
    return bool(np.isfinite(words).all())


def mean_metrics(updates: Sequence[Sound]) -> dict[str, Metric]:
    """Return the weighted mean of the metrics, lists element by element; ``num-examples`` is the total."""
    total = sum(u.weight for u in updates)
    parts = [u.weight / total for u in updates]
    mean: dict[str, Metric] = {}
    for key in updates[0].metrics:
        rows = [_row(u.metrics[key]) for u in updates]
        if key == WEIGHT:
            mean[key] = sum(row[0] for row in rows)  # ints stay an int
            continue
        means = [sum(x * p for x, p in zip(column, parts, strict=True)) for column in zip(*rows, strict=True)]
        mean[key] = means if isinstance(updates[0].metrics[key], list) else means[0]
    return mean


def _row(value: Metric) -> Sequence[int | float]:
    return value if isinstance(value, list) else [value]


def folded_header(updates: Sequence[Sound]) -> bytes:
    """Return the header of the object that carries the mean of ``updates``; its data follows in block order."""
    shape = updates[0].shape
    records = [(shape.record, "array")] if shape.record else []
    records.append((shape.metric_record, "metric"))
    return build_header(records, shape.tensors, {shape.metric_record: mean_metrics(updates)}, {})


def _mean_floats(words: Iterable[NDArray[Any]], parts: Sequence[float], dtype: str, space: Workspace) -> NDArray[Any]:
    kind = _ACCUMULATOR[dtype]
    mean, part = np.empty(0, dtype=kind), np.empty(0, dtype=kind)
    for index, (column, share) in enumerate(zip(words, parts, strict=True)):
        values = column if dtype in {"F32", "F64"} else to_float32(column, dtype)
        if index == 0:
            mean, part = space.arrays(kind, values.size)
            np.multiply(values, kind(share), out=mean)
        else:
            np.multiply(values, kind(share), out=part)
            np.add(mean, part, out=mean)
    return mean if dtype in {"F32", "F64"} else from_float32(mean.astype(np.float32, copy=False), dtype)


def _mean_integers(words: Iterable[NDArray[Any]], weights: Sequence[float], total: float, dtype: str) -> NDArray[Any]:
    # Extended precision has 64 bits of mantissa on x86: every int64 is exact in it, float64 would lose the last ten.
    acc: NDArray[Any] = np.zeros((), dtype=np.longdouble)
    for column, weight in zip(words, weights, strict=True):
        acc = acc + column.astype(np.longdouble) * np.longdouble(weight)
    info = np.iinfo(raw(dtype))
    mean = np.rint(acc / np.longdouble(total))
    clipped: NDArray[Any] = np.clip(mean, np.longdouble(info.min), np.longdouble(info.max))
    return clipped.astype(raw(dtype))


def _majority(words: Iterable[NDArray[Any]], weights: Sequence[float], total: float) -> NDArray[Any]:
    yes: NDArray[Any] = np.zeros((), dtype=np.float64)
    for column, weight in zip(words, weights, strict=True):
        # Any byte but 0 is true: a bool array may hold bytes that numpy would not write.
        yes = yes + (column.view(np.uint8) != 0) * weight
    return yes > total / 2
