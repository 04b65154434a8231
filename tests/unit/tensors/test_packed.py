"""Packed weights come back with the error the packing promises, and hostile bytes do not come back at all."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy

from common.child.frames import object_header
from common.errors import BadInput, BadManifest
from common.tensors.packed import HOW, max_errors, pack, unpack

RNG = np.random.default_rng(3)
WEIGHT = RNG.normal(size=(64, 32)).astype(np.float32)


def test_int8_is_off_by_at_most_half_a_step_of_each_channel():
    weights = WEIGHT * np.logspace(-3, 3, 64, dtype=np.float32)[:, None]
    back = unpack(pack({"w": weights}, "int8"))["w"]
    steps = np.abs(weights).max(axis=1, keepdims=True) / 127
    assert (np.abs(weights - back) <= steps * 0.5001).all()


def test_the_channel_axis_is_the_one_that_is_named():
    weights = (WEIGHT.T * np.logspace(-3, 3, 64, dtype=np.float32)).astype(np.float32)
    by_column = max_errors({"w": weights}, pack({"w": weights}, "int8", {"w": 1}))["w"]
    small = weights[:, :8]
    assert np.abs(unpack(pack({"w": weights}, "int8", {"w": 1}))["w"][:, :8] - small).max() < np.abs(small).max() / 100
    assert by_column <= np.abs(weights).max() / 127


def test_int8_takes_a_quarter_and_fp16_a_half():
    weights = {"w": RNG.normal(size=(512, 512)).astype(np.float32)}
    raw = weights["w"].nbytes
    assert len(pack(weights, "int8")) < raw * 0.26
    assert len(pack(weights, "fp16")) < raw * 0.51


def test_fp16_is_numpys_fp16_and_fp32_is_exact():
    np.testing.assert_array_equal(unpack(pack({"w": WEIGHT}, "fp16"))["w"], WEIGHT.astype(np.float16))
    np.testing.assert_array_equal(unpack(pack({"w": WEIGHT}, "fp32"))["w"], WEIGHT)


@pytest.mark.parametrize("how", HOW)
def test_what_is_no_float_comes_back_exactly(how):
    tensors = {
        "i": np.arange(-600, 600, dtype=np.int64).reshape(30, 40),
        "b": np.array([True, False]),
        "u": np.full((40, 40), 255, np.uint8),
        "scalar": np.array(7, np.int32),
        "empty": np.zeros((0, 3), np.float32),
    }
    back = unpack(pack(tensors, how))
    assert list(back) == list(tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape


@pytest.mark.parametrize("how", HOW)
def test_small_vectors_are_never_quantised(how):
    tensors = {"bias": np.array([1e-3, 2.0, 0.0], np.float32)}
    assert max_errors(tensors, pack(tensors, how))["bias"] <= 2.0 * 2**-11


def test_a_running_variance_too_small_for_fp16_stays_fp32():
    tensors = {"variance": np.array([1e-9, 3.0, 1e-7], np.float32)}
    np.testing.assert_array_equal(unpack(pack(tensors, "int8"))["variance"], tensors["variance"])


def test_values_beyond_fp16_stay_fp32():
    tensors = {"w": WEIGHT * 1e6}
    np.testing.assert_array_equal(unpack(pack(tensors, "fp16"))["w"], tensors["w"])


@pytest.mark.parametrize("how", HOW)
def test_a_diverged_model_is_carried_as_it_is(how):
    weights = WEIGHT.copy()
    weights[0, 0], weights[1, 1] = np.nan, np.inf
    np.testing.assert_array_equal(unpack(pack({"w": weights}, how))["w"], weights)


def test_a_channel_of_zeros_stays_zero():
    weights = WEIGHT.copy()
    weights[5] = 0
    assert (unpack(pack({"w": weights}, "int8"))["w"][5] == 0).all()


def test_double_and_half_come_back_in_their_own_dtype():
    tensors = {"d": WEIGHT.astype(np.float64), "h": WEIGHT.astype(np.float16)}
    back = unpack(pack(tensors, "int8"))
    assert (back["d"].dtype, back["h"].dtype) == (np.float64, np.float16)
    assert np.abs(back["d"] - tensors["d"]).max() < 0.02


def test_a_packed_file_is_a_safetensors_file():
    assert set(safetensors.numpy.load(pack({"w": WEIGHT}, "int8"))) == {"q/0", "s/0"}


def test_an_unknown_packing_is_bad_input():
    with pytest.raises(BadInput):
        pack({"w": WEIGHT}, "int4")


def forged(rows: list, entries: list, data: bytes, version: int = 1) -> bytes:
    return object_header(entries, {"packed": json.dumps({"version": version, "tensors": rows})}) + data


Q = ("q/0", "I8", (2, 2), 4)
S = ("s/0", "F32", (2,), 8)
ONES = np.ones(2, np.float32).tobytes()
HOSTILE = {
    "empty": b"",
    "noise": bytes(range(256)) * 4,
    "another version": forged([], [], b"", 2),
    "no list": object_header([], {"packed": "{}"}),
    "no metadata": object_header([], {}),
    "a row of three": forged([["w", "int8", "F32"]], [Q, S], b"abcd" + ONES),
    "unknown packing": forged([["w", "int4", "F32", 0]], [Q, S], b"abcd" + ONES),
    "a packing that is a list": forged([["w", [], "F32", 0]], [Q, S], b"abcd" + ONES),
    "to an integer": forged([["w", "int8", "I64", 0]], [Q, S], b"abcd" + ONES),
    "no scales": forged([["w", "int8", "F32", 0]], [Q], b"abcd"),
    "scales of fp16": forged([["w", "fp16", "F32", 0]], [("q/0", "F16", (2,), 4), S], b"abcd" + ONES),
    "an axis too far": forged([["w", "int8", "F32", 2]], [Q, S], b"abcd" + ONES),
    "a negative axis": forged([["w", "int8", "F32", -1]], [Q, S], b"abcd" + ONES),
    "too many scales": forged([["w", "int8", "F32", 0]], [Q, ("s/0", "F32", (4,), 16)], b"abcd" + ONES * 2),
    "a scale that is not finite": forged(
        [["w", "int8", "F32", 0]], [Q, S], b"abcd" + np.array([1, np.inf], np.float32).tobytes()
    ),
    "words of another dtype": forged([["w", "fp32", "F32", 0]], [("q/0", "F16", (2,), 4)], b"abcd"),
    "no words": forged([["w", "fp32", "F32", 0]], [], b""),
    "a tensor nobody listed": forged([], [Q], b"abcd"),
    "a name twice": forged([["w", "raw", "I8", 0], ["w", "raw", "I8", 0]], [Q, ("q/1", "I8", (1,), 1)], b"abcde"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_bad_manifests(name):
    with pytest.raises(BadManifest):
        unpack(HOSTILE[name])
