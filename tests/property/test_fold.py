"""Laws of the fold: who came first, and how the columns are cut, never shows."""

import hashlib
import math
import os
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.tensors.content import build_header, parse_content, read_content
from coordinator.aggregation.fold import Workspace, fold_block, mean_metrics, plan_blocks
from coordinator.aggregation.verify import Fault, Sound, agree, judge
from coordinator.services.collect import fold_files, fold_small

NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}
weights_of = st.lists(st.integers(1, 10_000), min_size=1, max_size=6)


def encode(arrays, metrics):
    """Return an update as a child writes it; ``arrays``: [(key, dtype, numpy array)]."""
    rows = [("arrays", key, dtype, a.shape, a.nbytes) for key, dtype, a in arrays]
    records = [("arrays", "array"), ("metrics", "metric")]
    return build_header(records, rows, {"metrics": metrics}, {}) + b"".join(a.tobytes() for _, _, a in arrays)


def sound_of(data, arrays=True, max_weight=1e9):
    return judge(parse_content(data, len(data)), arrays=arrays, max_weight=max_weight)


def tensors_of(data):
    content = parse_content(data, len(data))
    return {
        t.key: np.frombuffer(data[t.offset : t.offset + t.nbytes], NUMPY[t.dtype]).reshape(t.shape)
        for t in content.tensors
    }


@st.composite
def cohorts(draw, dtypes=tuple(NUMPY)):
    """Return (arrays of each update, weights): K updates of one random layout."""
    weights = draw(weights_of)
    layout = draw(
        st.lists(st.tuples(st.sampled_from(dtypes), st.lists(st.integers(0, 7), max_size=3)), min_size=1, max_size=5)
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    updates = []
    for _ in weights:
        arrays = []
        for index, (dtype, shape) in enumerate(layout):
            kind = np.dtype(NUMPY[dtype])
            if kind.kind == "f":
                values = (rng.normal(size=shape) * 10.0 ** rng.integers(-3, 3)).astype(kind)
            elif kind.kind == "b":
                values = rng.integers(0, 2, size=shape).astype(kind)
            else:
                low, high = max(np.iinfo(kind).min, -(2**45)), min(np.iinfo(kind).max, 2**45)
                values = rng.integers(low, high, size=shape, dtype=kind)  # weights times these fit 64 bits
            arrays.append((f"t{index}", dtype, np.asarray(values)))
        updates.append(arrays)
    return updates, weights


def write(folder: Path, updates, weights):
    found = []
    for index, (arrays, weight) in enumerate(zip(updates, weights, strict=True)):
        data = encode(arrays, {"num-examples": weight, "loss": 0.25 * index})
        path = folder / f"{index}"
        path.write_bytes(data)
        found.append((path, sound_of(data)))
    return found


@settings(deadline=None, max_examples=60)
@given(cohorts(), st.sampled_from([8, 24, 64, 1 << 20]))
def test_cutting_the_columns_elsewhere_and_threads_change_no_bit(tmp_path_factory, cohort, block):
    folder = tmp_path_factory.mktemp("fold")
    files = write(folder, *cohort)
    whole = fold_small(files)
    with ThreadPoolExecutor(2) as threads:
        digest = fold_files(files, folder / "out", block, threads)
    assert (folder / "out").read_bytes() == whole
    assert digest == hashlib.sha256(whole).hexdigest()


@settings(deadline=None, max_examples=60)
@given(cohorts(dtypes=("F64", "F32", "F16")))
def test_floats_are_the_weighted_mean_in_float64_within_their_own_rounding(tmp_path_factory, cohort):
    updates, weights = cohort
    folded = tensors_of(fold_small(write(tmp_path_factory.mktemp("fold"), updates, weights)))
    for index, (key, dtype, first) in enumerate(updates[0]):
        stack = np.stack([u[index][2].astype(np.float64) for u in updates])
        expected = np.average(stack, axis=0, weights=weights)
        scale = np.abs(stack).max(axis=0)
        unit = float(np.finfo(NUMPY[dtype] if dtype != "F64" else "f8").eps)
        assert folded[key].dtype == first.dtype
        bound = np.broadcast_to(scale * unit * (len(updates) + 2) + 1e-7 * (dtype == "F16"), expected.shape)
        assert (np.abs(folded[key].astype(np.float64) - expected) <= bound).all()


@settings(deadline=None, max_examples=60)
@given(cohorts(dtypes=("I64", "I32", "U8")))
def test_integers_stay_integers_rounded_half_to_even(tmp_path_factory, cohort):
    updates, weights = cohort
    folded = tensors_of(fold_small(write(tmp_path_factory.mktemp("fold"), updates, weights)))
    for index, (key, _, first) in enumerate(updates[0]):
        assert folded[key].dtype == first.dtype
        columns = zip(*(u[index][2].ravel().tolist() for u in updates), strict=True)
        exact = [Fraction(sum(v * w for v, w in zip(c, weights, strict=True)), sum(weights)) for c in columns]
        for got, mean in zip(folded[key].ravel().tolist(), exact, strict=True):
            # Extended precision holds every int64; the sum of products may lose its last bits beyond that.
            assert abs(got - round(mean)) <= abs(mean) * Fraction(1, 2**62)


def test_an_integer_half_rounds_to_even_and_a_counter_keeps_its_dtype():
    data = fold_block("I64", [np.array([10, 1], "<i8").data, np.array([13, 2], "<i8").data], [1, 1], Workspace(64))
    assert np.frombuffer(data, "<i8").tolist() == [12, 2]  # 11.5 and 1.5


def test_the_largest_integers_do_not_wrap():
    top = np.array([2**63 - 1, -(2**63)], "<i8")
    data = fold_block("I64", [top.data, top.data, top.data], [3, 5, 7], Workspace(64))
    assert np.frombuffer(data, "<i8").tolist() == top.tolist()


def test_booleans_follow_the_weighted_majority():
    columns = [np.array([1, 1, 0], "?").data, np.array([1, 0, 1], "?").data]
    assert np.frombuffer(fold_block("BOOL", columns, [3, 1], Workspace(8)), "?").tolist() == [True, True, False]
    assert not np.frombuffer(fold_block("BOOL", columns, [1, 1], Workspace(8)), "?")[1]  # a tie


def test_half_precision_sums_do_not_drift():
    tenth = np.full(8, 0.1, "<f2")
    data = fold_block("F16", [tenth.data] * 1000, [1.0] * 1000, Workspace(64))
    assert np.frombuffer(data, "<f2").tolist() == tenth.tolist()


def test_bfloat16_is_folded_in_float32():
    words = [np.array([0x3F80], "<u2"), np.array([0x4040], "<u2")]  # 1.0 and 3.0
    data = fold_block("BF16", [w.data for w in words], [1, 1], Workspace(64))
    assert np.frombuffer(data, "<u2").tolist() == [0x4000]  # 2.0


@settings(deadline=None, max_examples=40)
@given(cohorts(dtypes=("F32", "I64")), st.randoms(use_true_random=False))
def test_an_update_that_is_left_out_leaves_no_trace(tmp_path_factory, cohort, random):
    updates, weights = cohort
    chosen = sorted(random.sample(range(len(updates)), random.randint(1, len(updates))))
    folder = tmp_path_factory.mktemp("fold")
    files = write(folder, updates, weights)
    kept = fold_small([files[i] for i in chosen])
    for index in set(range(len(updates))) - set(chosen):
        os.truncate(files[index][0], 0)
    assert fold_small([files[i] for i in chosen]) == kept


@given(weights_of, st.data())
def test_metrics_are_weighted_means_and_the_examples_their_total(weights, data):
    values = [data.draw(st.floats(-1e6, 1e6)) for _ in weights]
    updates = [
        sound_of(encode([], {"num-examples": w, "loss": v, "per_class": [v, 2 * v]}))
        for w, v in zip(weights, values, strict=True)
    ]
    mean = mean_metrics(updates)
    expected = math.fsum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
    assert mean["num-examples"] == sum(weights)
    assert isinstance(mean["num-examples"], int)
    assert mean["loss"] == pytest.approx(expected, abs=1e-6)
    assert mean["per_class"] == pytest.approx([expected, 2 * expected], abs=1e-6)


def test_the_fold_is_what_flowers_own_fedavg_gives(tmp_path):
    from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords, aggregate_metricrecords

    rng = np.random.default_rng(7)
    updates = [
        [("w", "F32", rng.normal(size=(31, 17)).astype("f4")), ("b", "F64", rng.normal(size=9))] for _ in range(5)
    ]
    weights = [3, 1, 41, 5, 9]
    metrics = [{"num-examples": w, "loss": float(rng.random())} for w in weights]
    theirs = [
        RecordDict({
            "arrays": ArrayRecord({k: Array(a) for k, _, a in arrays}), "metrics": MetricRecord(m)
        })
        for arrays, m in zip(updates, metrics, strict=True)
    ]  # fmt: skip
    files = []
    for index, (arrays, m) in enumerate(zip(updates, metrics, strict=True)):
        path = tmp_path / str(index)
        path.write_bytes(encode(arrays, m))
        files.append((path, sound_of(path.read_bytes())))
    ours = tensors_of(fold_small(files))
    expected = aggregate_arrayrecords(theirs, "num-examples")
    for key, array in ours.items():
        np.testing.assert_allclose(array, expected[key].numpy(), rtol=1e-6, atol=1e-6)
    loss = aggregate_metricrecords(theirs, "num-examples")["loss"]
    assert mean_metrics([s for _, s in files])["loss"] == pytest.approx(loss, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(cohorts(dtypes=("F32",)), st.randoms(use_true_random=False))
def test_who_agrees_depends_on_the_set_and_not_on_the_order_of_arrival(cohort, random):
    updates, weights = cohort
    sounds: list[Sound] = []
    for arrays, weight in zip(updates, weights, strict=True):
        odd = random.random() < 0.3
        extra = [("odd", "F32", np.zeros(2, "f4"))] if odd else []
        found = sound_of(encode([*arrays, *extra], {"num-examples": weight}))
        assert not isinstance(found, Fault)
        sounds.append(found)
    winners, faults = agree(sounds)
    assert sorted([*winners, *(i for i, _ in faults)]) == list(range(len(sounds)))
    assert len({sounds[i].shape for i in winners}) == 1
    assert all(sounds[i].shape != sounds[winners[0]].shape for i, _ in faults)
    assert len(winners) >= max(sum(s.shape == t.shape for s in sounds) for t in sounds)


@settings(deadline=None, max_examples=60)
@given(cohorts())
def test_blocks_cover_the_data_once_each_of_one_dtype(cohort):
    data = encode(cohort[0][0], {"num-examples": 1})
    sound = sound_of(data)
    blocks = list(plan_blocks(sound.shape, 16))
    at = 0
    for block in blocks:
        assert block.offset == at
        at += block.nbytes
    assert at == len(data) - sound.data_offset


def test_a_folded_object_is_read_back_by_the_strict_reader(tmp_path):
    arrays = [("w", "F32", np.ones((2, 3), "f4")), ("n", "I64", np.array(4))]
    path = tmp_path / "u"
    path.write_bytes(encode(arrays, {"num-examples": 2, "loss": 0.5}))
    out = tmp_path / "out"
    out.write_bytes(fold_small([(path, sound_of(path.read_bytes()))] * 3))
    with out.open("rb") as file:
        content = read_content(file.fileno(), out.stat().st_size)
    assert [k for _, k in content.records] == ["array", "metric"]
    assert content.metrics["metrics"] == {"num-examples": 6, "loss": 0.5}
