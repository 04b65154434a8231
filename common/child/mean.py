"""The weighted mean of replies, folded one by one: what the coordinator does, for the simulation in one process.

Floats sum in float64 and come back in their dtype; integers are rounded half to even and keep theirs; booleans are
decided by the weighted majority.  A reply that the coordinator would drop is dropped here, with the reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from common.child import shim
from common.child.fold import WEIGHT

Shape = tuple[Any, ...]


@dataclass
class Mean:
    """Sums of ``weight * value`` over the replies so far.

    Args:
        arrays: Whether a reply must hold one array record (train) or has its arrays ignored (evaluate).
    """

    arrays: bool
    total: float = 0.0
    _weights: float = 0
    _shape: Shape | None = None
    _sums: list[NDArray[Any]] = field(default_factory=list)
    _metrics: dict[str, Any] = field(default_factory=dict)

    def add(self, content: RecordDict) -> str:
        """Fold one reply in; returns why it was dropped, or nothing."""
        arrays = [(name, record) for name, record in content.items() if isinstance(record, ArrayRecord)]
        metrics = [(name, record) for name, record in content.items() if isinstance(record, MetricRecord)]
        if len(metrics) != 1 or (self.arrays and len(arrays) != 1):
            return "a reply must hold exactly one array record (train only) and one metric record"
        values = dict(metrics[0][1].items())
        weight = values.get(WEIGHT)
        if not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
            return f"{WEIGHT} must be a positive number, not {weight!r}"
        name, record = arrays[0] if self.arrays else ("", ArrayRecord())
        shape = (
            name,
            tuple((key, array.dtype, array.shape) for key, array in record.items()),
            metrics[0][0],
            tuple(sorted((key, len(value) if isinstance(value, list) else -1) for key, value in values.items())),
        )
        if self._shape not in {None, shape}:
            return "its arrays or metrics differ in name, dtype or shape from the first reply's"
        tensors = [shim.peek(array) for array in record.values()]
        if not all(tensor.dtype.kind != "f" or np.isfinite(tensor).all() for tensor in tensors):
            return "an array holds values that are not finite"
        self._shape = shape
        self._fold(tensors, values, weight)
        return ""

    def _fold(self, tensors: list[NDArray[Any]], values: dict[str, Any], weight: float) -> None:
        if not self._sums:
            self._sums = [np.zeros(t.shape, np.longdouble if t.dtype.kind in "iu" else np.float64) for t in tensors]
        for total, tensor in zip(self._sums, tensors, strict=True):
            total += tensor * total.dtype.type(weight)
        for key, value in values.items():
            if key != WEIGHT:
                part = np.asarray(value, np.float64) * weight
                self._metrics[key] = self._metrics[key] + part if key in self._metrics else part
        self.total += weight
        self._weights += weight

    def content(self) -> RecordDict:
        """Return the one reply that stands for all."""
        if self._shape is None:
            raise ValueError("a mean of no replies")
        name, tensors, metric_record, _ = self._shape
        content = RecordDict()
        if name:
            record = ArrayRecord()
            for (key, dtype, _), total in zip(tensors, self._sums, strict=True):
                record[key] = shim.cast_values(self._mean(total, dtype), dtype)
            content[name] = record
        means = {key: (total / self.total).tolist() for key, total in self._metrics.items()}
        content[metric_record] = MetricRecord({**means, WEIGHT: self._weights})
        return content

    def _mean(self, total: NDArray[Any], dtype: str) -> NDArray[Any]:
        mean: NDArray[Any] = total / total.dtype.type(self.total)
        return mean > 0.5 if dtype == "bool" else mean
