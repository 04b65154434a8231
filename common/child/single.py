"""The weighted mean of one reply is that reply: Flower's own function would read and write a whole model to say so.

``w / w`` is exactly 1 and ``x * 1`` is exactly ``x`` for every float, so the result is the same to the last bit.
Integers go the original way: Flower turns them into floats.

Source:
    Flower 1.41, ``flwr/serverapp/strategy/strategy_utils.py``, ``aggregate_arrayrecords``.
"""

from __future__ import annotations

import functools
import math
import sys
from typing import Any

from flwr.app import ArrayRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from common.child.shim import NUMPY

_NAME = "aggregate_arrayrecords"
_FLOATS = frozenset({"float16", "float32", "float64"})  # bfloat16 comes out of Flower's function as float32


def install() -> None:
    """Put the short way before Flower's function, where its strategies look it up; idempotent."""
    module = sys.modules[FedAvg.__module__]
    original = getattr(module, _NAME, None)
    if original is None or hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def aggregate(records: list[RecordDict], weighting_metric_name: str) -> ArrayRecord:
        arrays = _unchanged(records, weighting_metric_name)
        return original(records, weighting_metric_name) if arrays is None else arrays

    setattr(module, _NAME, aggregate)


def _unchanged(records: list[RecordDict], weight: str) -> ArrayRecord | None:
    """Return the arrays of the only reply, if their mean is they themselves."""
    if len(records) != 1 or len(records[0].array_records) != 1 or not records[0].metric_records:
        return None
    share: Any = next(iter(records[0].metric_records.values())).get(weight)
    if type(share) not in {int, float} or not share or not math.isfinite(share / share):
        return None
    arrays = next(iter(records[0].array_records.values()))
    if any(array.stype != NUMPY or array.dtype not in _FLOATS for array in arrays.values()):
        return None
    return ArrayRecord.from_array_dict(dict(arrays.items()))
