"""The simulation's fold is the weighted mean, and drops what the coordinator would drop."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from common.child import shim
from common.child.mean import Mean

FINITE = st.floats(-1e6, 1e6, width=32)


def reply(array: np.ndarray, weight: float, **metrics: float) -> RecordDict:
    return RecordDict(
        {"arrays": ArrayRecord({"w": Array(array)}), "metrics": MetricRecord({"num-examples": weight, **metrics})}
    )


@pytest.fixture(autouse=True, scope="module")
def _flower_as_in_a_child() -> None:
    shim.install(in_files=False)


@given(st.lists(st.tuples(npst.arrays(np.float32, 3, elements=FINITE), st.integers(1, 1000)), min_size=1, max_size=6))
def test_it_is_numpys_weighted_average(parts: list[tuple[np.ndarray, int]]) -> None:
    mean = Mean(arrays=True)
    for array, weight in parts:
        assert mean.add(reply(array, weight, loss=float(array[0]))) == ""
    content = mean.content()
    values, weights = [array.astype(np.float64) for array, _ in parts], [weight for _, weight in parts]
    expected = np.average(values, axis=0, weights=weights)
    np.testing.assert_allclose(content["arrays"]["w"].numpy(), expected, rtol=1e-6, atol=1e-6)
    assert content["metrics"]["num-examples"] == sum(weights)
    assert content["metrics"]["loss"] == pytest.approx(expected[0], rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "weights", "expected"),
    [
        ([np.int64(10), np.int64(13)], [1, 1], 12),  # 11.5, half to even
        ([np.int64(2**62), np.int64(2**62 + 2)], [1, 1], 2**62 + 1),  # more than a float64 can hold
        ([np.bool_(True), np.bool_(False)], [3, 2], True),
        ([np.bool_(True), np.bool_(False)], [2, 2], False),
    ],
)
def test_integers_and_booleans_keep_their_dtype(values: list, weights: list[int], expected: object) -> None:
    mean = Mean(arrays=True)
    for value, weight in zip(values, weights, strict=True):
        mean.add(reply(np.array([value]), weight))
    got = mean.content()["arrays"]["w"].numpy()
    assert got.dtype == np.array([values[0]]).dtype
    assert got[0] == expected


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (reply(np.array([np.nan], np.float32), 1), "not finite"),
        (reply(np.array([1, 2], np.float32), 1), "differ"),
        (reply(np.array([1], np.float64), 1), "differ"),
        (reply(np.array([1], np.float32), 1, extra=1.0), "differ"),
        (reply(np.array([1], np.float32), 0), "positive"),
        (reply(np.array([1], np.float32), -3), "positive"),
        (reply(np.array([1], np.float32), float("inf")), "positive"),
        (reply(np.array([1], np.float32), float("nan")), "positive"),
        (RecordDict({"metrics": MetricRecord({"num-examples": 1})}), "exactly one"),
    ],
)
def test_a_bad_reply_is_dropped_and_the_mean_is_of_the_others(bad: RecordDict, why: str) -> None:
    mean = Mean(arrays=True)
    assert mean.add(reply(np.array([2], np.float32), 1)) == ""
    assert why in mean.add(bad)
    assert mean.add(reply(np.array([4], np.float32), 1)) == ""
    np.testing.assert_array_equal(mean.content()["arrays"]["w"].numpy(), [3.0])


def test_an_evaluation_ignores_arrays() -> None:
    mean = Mean(arrays=False)
    assert mean.add(reply(np.array([np.nan], np.float32), 1, loss=1.0)) == ""
    assert mean.add(reply(np.array([1, 2], np.float32), 3, loss=5.0)) == ""
    assert dict(mean.content()["metrics"].items()) == {"loss": 4.0, "num-examples": 4}
