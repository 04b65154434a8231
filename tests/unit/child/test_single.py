"""The mean of one reply: what Flower's own function gives, without its pass over the model."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, strategy_utils

from common.child import shim, single

FEDAVG: Any = sys.modules[FedAvg.__module__]
VALUES = [-0.0, 1e-45, 1.1, -3.7, np.inf, np.nan]


@pytest.fixture(autouse=True)
def _flower_as_in_a_child() -> None:
    shim.install(in_files=False)
    single.install()


def reply(weight: float, **arrays: Array) -> RecordDict:
    return RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": weight})})


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("weight", [1, 7, 0.3, 1e-300])
def test_floats_are_flowers_to_the_last_bit_and_are_not_copied(dtype: str, weight: float) -> None:
    given = Array(np.array([VALUES, VALUES], dtype))
    ours = FEDAVG.aggregate_arrayrecords([reply(weight, layer=given)], "num-examples")["layer"]
    flowers = strategy_utils.aggregate_arrayrecords([reply(weight, layer=given)], "num-examples")["layer"]
    assert (ours.dtype, ours.shape) == (flowers.dtype, flowers.shape)
    assert ours.numpy().tobytes() == flowers.numpy().tobytes()
    assert shim.block_of(ours)[0] is shim.block_of(given)[0]


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_what_flower_turns_into_floats_stays_its_own_work(dtype: str) -> None:
    given = reply(3, count=Array(np.array([0, 1, 5], dtype)))
    ours = FEDAVG.aggregate_arrayrecords([given], "num-examples")["count"]
    assert ours.dtype == "float64"
    assert ours.numpy().tolist() == [0.0, 1.0, 1.0 if dtype == "bool" else 5.0]


def test_several_replies_and_odd_weights_stay_flowers_own_work() -> None:
    one, two = (reply(w, layer=Array(np.full(2, v, np.float32))) for w, v in ((1, 0.0), (3, 4.0)))
    assert FEDAVG.aggregate_arrayrecords([one, two], "num-examples")["layer"].numpy().tolist() == [3.0, 3.0]
    with pytest.raises(ZeroDivisionError):
        FEDAVG.aggregate_arrayrecords([reply(0, layer=Array(np.ones(1)))], "num-examples")


def test_a_change_to_the_result_leaves_the_reply_as_it_was() -> None:
    given = reply(1, layer=Array(np.zeros(2, np.float32)))
    result = FEDAVG.aggregate_arrayrecords([given], "num-examples")
    result["layer"] = Array(np.ones(2, np.float32))
    assert given.array_records["arrays"]["layer"].numpy().tolist() == [0.0, 0.0]
