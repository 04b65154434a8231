"""dtypes go to float32 and back as torch and numpy say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.errors import BadUpdate
from common.tensors.dtypes import NUMPY, from_float32, itemsize, name_of, to_float32, view


def test_rounding_to_bfloat16_is_torchs():
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32)
    values = np.concatenate([bits.view(np.float32), np.array([1.00390625, 1.01171875, 3.4e38, -3.4e38], np.float32)])
    values = values[~np.isnan(values)]
    theirs = torch.tensor(values).to(torch.bfloat16).view(torch.uint16).numpy()
    np.testing.assert_array_equal(from_float32(values, "BF16"), theirs)


def test_a_nan_stays_a_nan_in_bfloat16():
    nans = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(to_float32(from_float32(nans, "BF16"), "BF16")).all()


def test_every_bfloat16_survives_the_way_there_and_back():
    words = np.arange(2**16, dtype=np.uint32).astype(np.uint16)
    values = to_float32(words, "BF16")
    numbers = ~np.isnan(values)
    np.testing.assert_array_equal(from_float32(values, "BF16")[numbers], words[numbers])


def test_integers_are_rounded_and_clipped():
    values = np.array([-1e30, -1.5, 0.5, 2.5, 300.0, 1e30, np.nan, np.inf], np.float32)
    assert from_float32(values, "I8").tolist() == [-128, -2, 0, 2, 127, 127, 0, 127]
    assert from_float32(values, "U8").tolist() == [0, 0, 0, 2, 255, 255, 0, 255]
    assert from_float32(values, "I64")[-3] == 2**63 - 1
    assert from_float32(values, "U64")[5] == 2**64 - 1
    assert from_float32(values, "BOOL").tolist() == [True, True, True, True, True, True, True, True]


def test_a_float32_array_is_not_copied():
    values = np.ones(3, np.float32)
    assert to_float32(values, "F32") is values
    assert from_float32(values, "F32") is values


@pytest.mark.parametrize("name", [n for n in NUMPY if n != "BF16"])
def test_names_and_numpy_dtypes_are_two_views_of_one_thing(name):
    assert name_of(NUMPY[name]) == name
    assert itemsize(name) == NUMPY[name].itemsize


def test_unknown_dtypes_and_wrong_lengths_are_refused():
    with pytest.raises(BadUpdate):
        itemsize("F8_E4M3")
    with pytest.raises(BadUpdate):
        name_of(np.dtype("complex64"))
    with pytest.raises(BadUpdate):
        view(b"123", "U8", (4,))
