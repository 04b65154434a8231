"""Records go through an object and come back as they were, and hold to what Flower promises of its arrays."""

from __future__ import annotations

import copy
import fcntl
import gc
import math
import os
import pickle  # noqa: TID251 the question is what an app's own pickling does
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from safetensors.numpy import load

from common.child import blocks, shim
from common.child.records import SEALS, decode, encode

DTYPES = [
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
]


@pytest.fixture(autouse=True, params=[True, False], ids=["files", "memory"])
def _flower_as_in_a_child(request: pytest.FixtureRequest) -> None:
    shim.install(in_files=request.param)


def through(content: RecordDict) -> RecordDict:
    fd, size = encode(content)
    assert os.fstat(fd).st_size == size
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS
    return decode(fd, size)


names = st.text(max_size=8)
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats()
values = (
    st.booleans() | numbers | st.text(max_size=8) | st.binary(max_size=8)
    | st.lists(st.binary(max_size=4), max_size=3) | st.lists(st.floats(), max_size=3) | st.lists(st.booleans(), max_size=3)
)  # fmt: skip
records = (
    st.dictionaries(names, arrays, max_size=4).map(lambda d: ArrayRecord({k: Array(v) for k, v in d.items()}))
    | st.dictionaries(names, numbers | st.lists(st.integers(0, 9), max_size=3), max_size=4).map(MetricRecord)
    | st.dictionaries(names, values, max_size=4).map(ConfigRecord)
)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and math.isnan(left):
        return isinstance(right, float) and math.isnan(right)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


@given(st.dictionaries(st.text("abc", min_size=1, max_size=4), records, max_size=4))
def test_what_goes_in_comes_out(made: dict[str, Any]) -> None:
    content = RecordDict(made)
    got = through(content)
    assert list(got) == list(content)
    for name, record in content.items():
        assert type(got[name]) is type(record)
        assert list(got[name]) == list(record)
        for key, value in record.items():
            back = got[name][key]
            if isinstance(value, Array):
                ours, theirs = back.numpy(), value.numpy()
                assert (back.dtype, back.shape, back.stype) == (value.dtype, value.shape, value.stype)
                assert ours.tobytes() == theirs.tobytes()
                assert ours.dtype == theirs.dtype
                assert ours.shape == theirs.shape
            else:
                assert same(value, back)


def test_an_object_is_a_safetensors_file_in_record_order() -> None:
    made = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array(7, np.int64)}
    fd, size = encode(RecordDict({"model": ArrayRecord({k: Array(v) for k, v in made.items()})}))
    read = load(os.pread(fd, size, 0))
    os.close(fd)
    assert {name: array.tolist() for name, array in read.items()} == {"model/b": [[0, 1, 2], [3, 4, 5]], "model/a": 7}


def test_an_array_holds_the_values_it_was_made_with() -> None:
    source = np.zeros(3, np.float32)
    array = Array(source)
    source += 1
    first = array.numpy()
    first += 5
    np.testing.assert_array_equal(array.numpy(), np.zeros(3))
    assert first.flags.writeable


def test_a_large_object_is_sent_without_another_copy_and_its_arrays_stay_readable() -> None:
    big = np.arange(1 << 20, dtype=np.float32)
    record = ArrayRecord([big, big[:3] * 2])
    fd, size = encode(RecordDict({"arrays": record}))
    got = decode(fd, size)["arrays"]
    view = got["0"].numpy()
    view[0] = 99.0
    np.testing.assert_array_equal(got["0"].numpy(), big)
    np.testing.assert_array_equal(record["0"].numpy(), big)
    np.testing.assert_array_equal(record["1"].numpy(), [0, 2, 4])
    again = through(RecordDict({"other": ConfigRecord({"r": 2}), "arrays": record}))["arrays"]
    np.testing.assert_array_equal(again["0"].numpy(), big)


def test_memory_that_is_used_again_never_shows_through_a_view() -> None:
    kept = Array(np.full(1 << 20, 1.0, np.float32)).numpy()  # its Array is gone, the view is not
    gc.collect()
    for value in range(2, 5):
        Array(np.full(1 << 20, float(value), np.float32))
    assert kept.min() == kept.max() == 1.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_data_is_what_flower_would_have_written(dtype: str) -> None:
    source = np.arange(6).reshape(2, 3).astype(dtype)
    array = Array(source)
    assert array.dtype == dtype
    rebuilt = Array(array.dtype, array.shape, array.stype, array.data)
    np.testing.assert_array_equal(rebuilt.numpy(), source)
    np.testing.assert_array_equal(through(RecordDict({"a": ArrayRecord({"x": rebuilt})}))["a"]["x"].numpy(), source)
    assert rebuilt == array
    assert len(array.data) > array.numpy().nbytes


def test_layouts_that_are_not_plain_come_out_right() -> None:
    base = np.arange(24, dtype=np.int32).reshape(4, 6)
    odd = {"fortran": np.asfortranarray(base), "strided": base[::2, ::3], "big": base.astype(">i4"), "zero": base[:0]}
    got = through(RecordDict({"a": ArrayRecord({k: Array(v) for k, v in odd.items()})}))["a"]
    for key, value in odd.items():
        np.testing.assert_array_equal(got[key].numpy(), value)


def test_what_safetensors_cannot_name_travels_as_the_app_wrote_it() -> None:
    own = Array("float32", (2, 2), "my.own.codec", b"\x00\x01compressed")
    complex_ = Array(np.array([1 + 2j, 3j]))
    got = through(RecordDict({"a": ArrayRecord({"own": own, "complex": complex_})}))["a"]
    assert (got["own"].dtype, got["own"].shape, got["own"].stype, got["own"].data) == (
        "float32", (2, 2), "my.own.codec", b"\x00\x01compressed",
    )  # fmt: skip
    np.testing.assert_array_equal(got["complex"].numpy(), [1 + 2j, 3j])


def test_two_tensors_of_one_name_are_refused() -> None:
    one = ArrayRecord({"b/c": Array(np.ones(1))})
    two = ArrayRecord({"c": Array(np.ones(1))})
    with pytest.raises(ValueError, match="share one name"):
        encode(RecordDict({"a": one, "a/b": two}))


def test_bfloat16_goes_through_bit_by_bit() -> None:
    state = {
        "w": torch.randn(300, 7).to(torch.bfloat16),
        "n": torch.tensor(3),
        "nan": torch.tensor([math.nan]).bfloat16(),
    }
    record = ArrayRecord(state)
    assert record["w"].dtype == "bfloat16"
    assert record["w"].numpy().dtype == np.float32
    back = through(RecordDict({"a": record}))["a"].to_torch_state_dict()
    assert back["w"].dtype == torch.bfloat16
    assert torch.equal(back["w"].view(torch.int16), state["w"].view(torch.int16))
    assert back["n"].item() == 3
    assert math.isnan(back["nan"].item())


@given(npst.arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32, allow_nan=True)))
def test_rounding_to_bfloat16_is_torchs(numbers: np.ndarray) -> None:
    ours = shim.cast_array(Array(numbers), "bfloat16").numpy()
    theirs = torch.from_numpy(numbers.copy()).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(ours, theirs)


def test_arrays_can_be_copied_and_sent_to_an_apps_own_workers() -> None:
    record = ArrayRecord([np.arange(4, dtype=np.float32)])
    for twin in (copy.deepcopy(record["0"]), copy.copy(record["0"]), pickle.loads(pickle.dumps(record["0"]))):
        np.testing.assert_array_equal(twin.numpy(), np.arange(4))
    assert b"common.child" not in pickle.dumps(record["0"])


def test_dead_arrays_do_not_pile_up_in_the_file_that_is_sent() -> None:
    maker = blocks.Maker(in_files=True)
    survivor = maker.block(np.ones(4, np.float32))
    for _ in range(100):
        maker.block(np.ones(1 << 20, np.uint8))
    assert isinstance(survivor.store, blocks.Arena)
    assert survivor.store.end < 2 * blocks.ARENA_WASTE
