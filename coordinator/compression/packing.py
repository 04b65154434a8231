"""Pack a version's weights and say what that cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from common.tensors.packed import max_errors, pack


@dataclass(frozen=True)
class PackedWeights:
    """Packed bytes, and the loss in them."""

    data: bytes
    how: str
    raw_bytes: int  # before packing
    error: float  # largest absolute difference of any weight
    worst: str  # the tensor it is in


def pack_weights(weights: Mapping[str, NDArray[Any]], how: str, axes: Mapping[str, int]) -> PackedWeights:
    """Return ``weights`` packed as ``how`` ("int8", "fp16" or "fp32"), with the largest error measured, not estimated.

    Raises:
        BadInput: an unknown ``how``.
    """
    data = pack(weights, how, axes)
    errors = max_errors(weights, data)
    worst = max(errors, key=lambda name: errors[name], default="")
    return PackedWeights(data, how, sum(w.nbytes for w in weights.values()), errors.get(worst, 0.0), worst)
