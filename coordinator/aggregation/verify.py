"""Whether an update may be folded, and with which others.

Two questions, so that the order of arrival never shows:

* ``judge`` asks of one update alone: one array record, one metric record, a weight in (0, max].  (Whether every value
  is finite is asked of the data, by ``fold.all_finite``.)
* ``agree`` asks of the whole set at the close: only updates of one *shape* (tensor names, dtypes, shapes, layout,
  metric names) have a mean.  The shape of the majority counts; of equals the one that matches what was sent out, then
  the one whose first member stands first in the roster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.tensors.content import Content

WEIGHT = "num-examples"
Tensor = tuple[str, str, str, tuple[int, ...], int]  # record, key, dtype, shape, bytes; in record order
Metric = int | float | list[int] | list[float]


@dataclass(frozen=True)
class Fault:
    """Why an update is dropped: a stable code, and a sentence with the values."""

    code: str
    message: str


@dataclass(frozen=True)
class Shape:
    """What updates must have in common to have a mean."""

    record: str  # name of the array record, "" = none
    tensors: tuple[Tensor, ...]
    metric_record: str
    metric_keys: tuple[tuple[str, int], ...]  # (name, length of a list or -1), sorted


@dataclass(frozen=True)
class Sound:
    """An update that passed ``judge``."""

    shape: Shape
    weight: float
    metrics: Mapping[str, Metric]
    data_offset: int
    size: int


def judge(content: Content, *, arrays: bool, max_weight: float) -> Sound | Fault:
    """Judge one update on its own.

    Args:
        content: The update's header.
        arrays: Whether an array record is required (a training reply) or ignored (an evaluation reply).
        max_weight: Declared maximum of ``num-examples``.
    """
    names = {kind: [n for n, k in content.records if k == kind] for kind in ("array", "metric")}
    if arrays and len(names["array"]) != 1:
        return Fault("array_records", f"a reply must hold exactly one array record, this has {len(names['array'])}")
    if len(names["metric"]) != 1:
        return Fault("metric_records", f"a reply must hold exactly one metric record, this has {len(names['metric'])}")
    metric_record = names["metric"][0]
    metrics = content.metrics[metric_record]
    if arrays and content.foreign:
        return Fault("foreign", f"tensor {min(content.foreign)[:80]!r} is in the app's own format, which has no mean")
    if arrays and not content.in_data_order():
        return Fault("layout", "the tensors must lie in the data in the order of the record")
    fault = _weight_fault(metrics.get(WEIGHT), max_weight)
    if fault:
        return fault
    keys = tuple(sorted((k, len(v) if isinstance(v, list) else -1) for k, v in metrics.items()))
    record = names["array"][0] if arrays else ""
    shape = Shape(record, _tensors(content, record) if arrays else (), metric_record, keys)
    return Sound(shape, float(metrics[WEIGHT]), metrics, content.data_offset, content.size)  # type: ignore[arg-type]  # a number: judged above


def agree(
    updates: Sequence[Sound], reference: tuple[Tensor, ...] = ()
) -> tuple[tuple[int, ...], tuple[tuple[int, Fault], ...]]:
    """Return which of ``updates`` (in roster order) are folded together, and why the others are not.

    Args:
        updates: Sound updates, in roster order.
        reference: Tensors that were sent out, to decide between groups of equal size; () = none.
    """
    groups: dict[Shape, list[int]] = {}
    for index, update in enumerate(updates):
        groups.setdefault(update.shape, []).append(index)
    if not groups:
        return (), ()
    asked = _bare(reference)
    best = max(groups, key=lambda shape: (len(groups[shape]), _bare(shape.tensors) == asked, -groups[shape][0]))
    faults = [
        (index, difference(best, shape)) for shape, members in groups.items() if shape != best for index in members
    ]
    return tuple(groups[best]), tuple(sorted(faults, key=lambda f: f[0]))


def difference(expected: Shape, got: Shape) -> Fault:
    """Return the first way in which ``got`` differs, as a sentence."""
    mine = {(t[0], t[1]): t for t in expected.tensors}
    theirs = {(t[0], t[1]): t for t in got.tensors}
    for name in [*mine, *(n for n in theirs if n not in mine)]:
        label = "/".join(name)
        if name not in theirs:
            return Fault("tensor_missing", f"tensor {label[:80]!r} is missing")
        if name not in mine:
            return Fault("tensor_extra", f"tensor {label[:80]!r} is in no other update")
        (_, _, dtype, shape, _), (_, _, want_dtype, want_shape, _) = theirs[name], mine[name]
        if dtype != want_dtype:
            return Fault("dtype", f"tensor {label[:80]!r} has dtype {dtype}, the others have {want_dtype}")
        if shape != want_shape:
            return Fault("shape", f"tensor {label[:80]!r} has shape {shape}, the others have {want_shape}")
    if expected.tensors != got.tensors:
        return Fault("layout", "the tensors come in another order than in the other updates")
    keys, wanted = dict(got.metric_keys), dict(expected.metric_keys)
    odd = sorted(set(keys.items()) ^ set(wanted.items()))
    names = ", ".join(sorted({k for k, _ in odd}))[:200] or got.metric_record[:80]
    return Fault("metric_keys", f"the metrics differ from the other updates' at {names!r}")


def reference_tensors(content: Content) -> tuple[Tensor, ...]:
    """Return the tensors of an instruction message if it holds exactly one array record, else ()."""
    arrays = [name for name, kind in content.records if kind == "array"]
    return _tensors(content, arrays[0]) if len(arrays) == 1 else ()


def _bare(tensors: tuple[Tensor, ...]) -> frozenset[tuple[str, str, tuple[int, ...]]]:
    return frozenset((key, dtype, shape) for _, key, dtype, shape, _ in tensors)


def _tensors(content: Content, record: str) -> tuple[Tensor, ...]:
    return tuple((t.record, t.key, t.dtype, t.shape, t.nbytes) for t in content.tensors if t.record == record)


def _weight_fault(weight: object, max_weight: float) -> Fault | None:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        return Fault("weight", f"the metric {WEIGHT!r} must be one number")
    if not math.isfinite(weight) or not 0 < weight <= max_weight:
        return Fault("weight", f"{WEIGHT} must be over 0 and at most {max_weight:g}, got {weight:g}")
    return None
