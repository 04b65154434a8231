"""What packing costs is measured, not promised."""

from __future__ import annotations

import numpy as np
import pytest

from common.tensors.packed import unpack
from coordinator.compression.packing import pack_weights

WEIGHTS = {
    "w": np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32),
    "b": np.ones(64, np.float32),
    "n": np.arange(5),
}


@pytest.mark.parametrize("how", ["fp32", "fp16", "int8"])
def test_the_error_is_the_largest_there_is(how):
    packed = pack_weights(WEIGHTS, how, {})
    back = unpack(packed.data)
    worst = max(float(np.abs(WEIGHTS[n].astype(np.float64) - back[n]).max()) for n in ("w", "b"))
    assert packed.error == worst
    assert packed.raw_bytes == sum(w.nbytes for w in WEIGHTS.values())
    assert (packed.worst == "w") or how == "fp32"


def test_a_graph_without_weights_packs_into_nothing():
    packed = pack_weights({}, "int8", {})
    assert (packed.error, packed.raw_bytes, unpack(packed.data)) == (0.0, 0, {})
