"""Masked updates written by a node's file and folded by the coordinator's: the mean is that of plain updates."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from client_node.services.masked_file import ReplyFile, Sent, facts_of
from common.errors import BadUpdate
from common.privacy.layout import Layout
from common.privacy.quantize import Encoding, fitting_range
from common.tensors.content import build_header, parse_content, read_content
from common.tensors.dtypes import from_float32, to_float32
from coordinator.rounds.masked import Opening
from coordinator.services.masked_fold import MaskedSum, SentOut, check_masked, masked_mean
from tests.masked_cohort import Cohort

COUNTS = (10, 250, 33)
RNG = np.random.default_rng(4)
SHAPES = {"w": ("F32", (700, 1000)), "h": ("F16", (33,)), "b": ("BF16", (5, 3)), "d": ("F64", (7,)), "n": ("I64", ()),
          "mask": ("BOOL", (4,)), "last": ("F32", (3,))}  # fmt: skip


def model(scale: float, base: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for key, (dtype, shape) in SHAPES.items():
        if dtype == "I64":
            arrays[key] = np.array(int(RNG.integers(2**60)), np.int64)
        elif dtype == "BOOL":
            arrays[key] = RNG.integers(0, 2, shape).astype(bool)
        else:
            start = 0 if base is None else floats(key, base[key])
            arrays[key] = words(key, start + RNG.normal(size=shape) * scale)
    return arrays


def words(key: str, values: np.ndarray) -> np.ndarray:
    dtype = SHAPES[key][0]
    return values.astype(np.float64) if dtype == "F64" else from_float32(values.astype(np.float32), dtype)


def floats(key: str, array: np.ndarray) -> np.ndarray:
    dtype = SHAPES[key][0]
    return array if dtype == "F64" else to_float32(array, dtype)


def written(path: Path, arrays: dict[str, np.ndarray], metrics: dict[str, object]) -> Path:
    rows = [("arrays", k, SHAPES[k][0], SHAPES[k][1], a.nbytes) for k, a in arrays.items()]
    head = build_header([("arrays", "array"), ("metrics", "metric")], rows, {"metrics": metrics}, {})
    path.write_bytes(head + b"".join(a.tobytes() for a in arrays.values()))
    return path


@pytest.mark.parametrize(("ring", "threads"), [(32, 2), (32, 0), (16, 0)])
def test_the_mean_of_masked_updates_is_the_mean_of_the_updates(tmp_path: Path, ring: int, threads: int) -> None:
    sent = model(1.0)
    instruction = written(tmp_path / "sent", sent, {})
    replies = [model(0.02, sent) for _ in COUNTS]
    metrics = [{"num-examples": n, "loss": 0.1 * n, "per": [n / 7, 1e-9]} for n in COUNTS]
    files = [written(tmp_path / f"r{i}", r, m) for i, (r, m) in enumerate(zip(replies, metrics, strict=True))]
    cohort = Cohort(3)
    cohort.run({})
    facts = [facts_of(f, "0", Sent(instruction), arrays=True) for f in files]
    encoding = Encoding(ring, 3, max(fitting_range(f.largest, -3) for f in facts), 8)
    masked = []
    for name, file in zip(cohort.names, files, strict=True):
        with ReplyFile(file, Sent(instruction), arrays=True) as reply:
            target = tmp_path / f"{name}.masked"
            _, size = reply.masked_to(target, encoding, name.encode()[:16].ljust(16), cohort.keys[name])
        assert check_masked(target, size, facts[0].layout, ring) == ""
        masked.append(target)

    data = mean(MaskedSum(masked, facts[0].layout, encoding, cohort.attempt.opening(), opened(instruction)), threads)
    content = parse_content(data, len(data))
    assert content.metrics["metrics"]["num-examples"] == sum(COUNTS)
    assert content.metrics["metrics"]["loss"] == pytest.approx(
        sum(0.1 * n * n for n in COUNTS) / sum(COUNTS), rel=1e-15
    )
    assert content.metrics["metrics"]["per"] == pytest.approx([sum(n * n / 7 for n in COUNTS) / sum(COUNTS), 1e-9])
    step = 3 * encoding.unit(sum(COUNTS))
    for tensor in content.tensors:
        got = np.frombuffer(data[tensor.offset : tensor.offset + tensor.nbytes], sent[tensor.key].dtype).reshape(
            tensor.shape
        )
        if tensor.dtype == "I64":
            assert int(got) == round(
                Fraction(sum(int(r["n"]) * n for r, n in zip(replies, COUNTS, strict=True)), sum(COUNTS))
            )
        elif tensor.dtype == "BOOL":
            votes = sum(r["mask"] * n for r, n in zip(replies, COUNTS, strict=True))
            assert (got == (votes > sum(COUNTS) / 2)).all()
        else:
            want = sum(
                floats(tensor.key, r[tensor.key]).astype(np.float64) * n for r, n in zip(replies, COUNTS, strict=True)
            )
            rounding = {"F64": 0, "F32": 2**-23, "F16": 2**-10, "BF16": 2**-7}[tensor.dtype]
            error = np.abs(floats(tensor.key, got) - want / sum(COUNTS))
            assert (error <= step + rounding * np.abs(want / sum(COUNTS))).all(), tensor.key


def mean(task: MaskedSum, threads: int) -> bytes:
    if not threads:
        with masked_mean(task, None) as (_, parts):
            return b"".join(parts)
    with ThreadPoolExecutor(threads) as pool, masked_mean(task, pool) as (_, parts):
        return b"".join(parts)


def opened(path: Path) -> SentOut:
    fd = os.open(path, os.O_RDONLY)
    return SentOut(fd, read_content(fd, path.stat().st_size))


def test_replies_that_have_no_sum_are_refused_with_the_reason(tmp_path: Path) -> None:
    sent = written(tmp_path / "sent", model(1.0), {})
    bad = model(1.0)
    bad["w"][3, 3] = np.nan
    for name, arrays, metrics, code in (
        ("nan", bad, {"num-examples": 3}, "not_finite"),
        ("none", model(1.0), {"loss": 3}, "bad_update"),
        ("zero", model(1.0), {"num-examples": 0}, "weight"),
    ):
        with pytest.raises(BadUpdate) as caught:
            facts_of(written(tmp_path / name, arrays, metrics), "0", Sent(sent), arrays=True)
        assert caught.value.code == code


def test_rubbish_in_the_lanes_is_found_out(tmp_path: Path) -> None:
    layout = Layout("", (), "m", (("num-examples", -1),))
    path = tmp_path / "masked"
    path.write_bytes(layout.header(32) + b"\xff" * layout.data_bytes(32))
    with (
        pytest.raises(BadUpdate),
        masked_mean(MaskedSum([path], layout, Encoding(32, 3, 4, 8), Opening((), ()), None), None),
    ):
        pass
    assert "bytes" in check_masked(path, 5, layout, 32)
    path.write_bytes(b"\0" * len(path.read_bytes()))
    assert "header" in check_masked(path, path.stat().st_size, layout, 32)
    assert json.loads(layout.text)["metrics"] == [["num-examples", -1]]
