"""What makes an update sound, and which updates belong together."""

import numpy as np
import pytest

from common.tensors.content import build_header, parse_content
from coordinator.aggregation.verify import Fault, agree, judge

F32 = np.dtype("<f4")


def content(tensors=(("w", "F32", (2,)),), metrics=None, records=None, order=None):
    sizes = {"F32": 4, "F64": 8, "I64": 8}
    rows = [("arrays", k, d, s, sizes[d] * int(np.prod(s))) for k, d, s in tensors]
    metrics = {"num-examples": 4, "loss": 0.5} if metrics is None else metrics
    records = records or [("arrays", "array"), ("metrics", "metric")]
    tables = {n: metrics for n, k in records if k == "metric"}
    head = build_header(records, rows, tables, {n: {} for n, k in records if k == "config"})
    return parse_content(head, len(head) + sum(r[4] for r in rows))


def verdict(arrays=True, max_weight=100.0, **given):
    return judge(content(**given), arrays=arrays, max_weight=max_weight)


def test_a_plain_training_reply_is_sound():
    found = verdict()
    assert found.weight == 4.0
    assert found.shape.tensors == (("arrays", "w", "F32", (2,), 8),)


@pytest.mark.parametrize("weight", [0, -1, 101, 1e30, float("nan"), float("inf"), [4], 0.0])
def test_a_weight_outside_its_bounds_is_a_fault(weight):
    assert verdict(metrics={"num-examples": weight}).code == "weight"


def test_a_reply_without_a_weight_is_a_fault():
    assert verdict(metrics={"loss": 1.0}).code == "weight"


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ([("metrics", "metric")], "array_records"),
        ([("arrays", "array"), ("more", "array"), ("metrics", "metric")], "array_records"),
        ([("arrays", "array")], "metric_records"),
        ([("arrays", "array"), ("metrics", "metric"), ("more", "metric")], "metric_records"),
    ],
)
def test_a_training_reply_has_one_array_and_one_metric_record(records, code):
    tensors = (("w", "F32", (2,)),) if ("arrays", "array") in records else ()
    assert verdict(tensors=tensors, records=records).code == code


def test_an_evaluation_reply_needs_no_arrays_and_config_is_ignored():
    found = verdict(arrays=False, tensors=(), records=[("c", "config"), ("metrics", "metric")])
    assert not isinstance(found, Fault)
    assert found.shape.tensors == ()


def sound(**given):
    found = verdict(**given)
    assert not isinstance(found, Fault)
    return found


ODD = {
    "tensor_missing": {"tensors": ()},
    "tensor_extra": {"tensors": (("w", "F32", (2,)), ("v", "F32", (2,)))},
    "dtype": {"tensors": (("w", "F64", (2,)),)},
    "shape": {"tensors": (("w", "F32", (1, 2)),)},
    "metric_keys": {"metrics": {"num-examples": 4, "accuracy": 0.5}},
}


@pytest.mark.parametrize("code", ODD)
def test_the_one_that_differs_from_the_majority_is_dropped_and_the_difference_named(code):
    winners, faults = agree([sound(), sound(**ODD[code]), sound()])
    assert winners == (0, 2)
    assert [(i, f.code) for i, f in faults] == [(1, code)]


def test_lists_of_different_length_do_not_agree():
    long, short = {"num-examples": 1, "x": [1.0, 2.0]}, {"num-examples": 1, "x": [1.0]}
    assert agree([sound(metrics=long), sound(metrics=long), sound(metrics=short)])[0] == (0, 1)


def test_between_groups_of_equal_size_what_was_sent_out_decides():
    reference = sound().shape.tensors
    assert agree([sound(**ODD["shape"]), sound()], reference)[0] == (1,)


def test_else_the_first_in_the_roster_decides():
    assert agree([sound(**ODD["shape"]), sound()])[0] == (0,)
    assert agree([sound(), sound(**ODD["shape"])])[0] == (0,)


def test_nobody_agrees_on_nothing():
    assert agree([]) == ((), ())
