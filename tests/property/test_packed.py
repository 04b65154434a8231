"""Laws of packing."""

from __future__ import annotations

import contextlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.errors import BadManifest
from common.tensors.packed import HOW, SMALL, max_errors, pack, unpack

FLOATS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=40),
    elements=st.floats(-1e4, 1e4, width=32),
)


@given(FLOATS, st.sampled_from(HOW), st.integers(0, 2))
def test_the_error_is_within_the_steps_of_the_packing(weights, how, axis):
    axis %= weights.ndim
    back = unpack(pack({"w": weights}, how, {"w": axis}))["w"]
    assert back.shape == weights.shape
    others = tuple(a for a in range(weights.ndim) if a != axis)
    steps = np.abs(weights).max(axis=others, keepdims=True) / 127
    half_ulp = np.maximum(np.abs(weights) * 2.0**-11, 2.0**-25)
    quantised = how == "int8" and weights.ndim > 1 and weights.size >= SMALL
    allowed = np.maximum(steps * 0.5001, 2.0**-120) if quantised else (0 if how == "fp32" else half_ulp)
    assert (np.abs(weights.astype(np.float64) - back) <= allowed).all()


@given(FLOATS, st.sampled_from(HOW))
def test_the_error_that_is_recorded_is_the_error_that_is_there(weights, how):
    packed = pack({"w": weights}, how)
    there = float(np.abs(weights.astype(np.float64) - unpack(packed)["w"]).max())
    assert max_errors({"w": weights}, packed)["w"] == there


@given(st.data())
def test_changed_bytes_are_read_or_are_bad_manifests(data):
    good = pack({"w": np.ones((32, 32), np.float32), "b": np.ones(3, np.float32)}, "int8")
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadManifest):
        unpack(bytes(bad)[: data.draw(st.integers(0, len(bad)))])
