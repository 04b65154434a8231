"""Objects are read strictly, and as the safetensors library reads them."""

from __future__ import annotations

import json
import os
import struct

import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors.torch import save as save_torch

from common.errors import BadUpdate
from common.tensors.content import ContentLimits, build_header, parse_content, read_content
from common.tensors.dtypes import to_float32, view
from common.tensors.safe import parse_table

A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.array([1, -2, 3], dtype=np.int64)


def an_object(**changes) -> bytes:
    tensors = [("arrays", "a", "F32", (2, 3), A.nbytes), ("arrays", "b", "I64", (3,), B.nbytes)]
    metrics = {"metrics": {"num-examples": 7, "loss": 0.5, "each": [1.5, 2.5]}}
    configs = {"config": {"lr": 0.1, "name": "x", "raw": b"\x00\xff", "on": True, "many": ["a", "b"]}}
    records = [("arrays", "array"), ("metrics", "metric"), ("config", "config")]
    header = build_header(records, tensors, metrics, configs)
    return header + A.tobytes() + B.tobytes()


def framed(table: dict | str, data: bytes = b"") -> bytes:
    body = (table if isinstance(table, str) else json.dumps(table)).encode()
    return struct.pack("<Q", len(body)) + body + data


def with_records(records: list, tensors: dict | None = None, data: bytes = b"") -> bytes:
    return framed({"__metadata__": {"hansa": json.dumps({"records": records})}, **(tensors or {})}, data)


def row(begin: int, end: int, shape: list | None = None, dtype: str = "U8") -> dict:
    return {"dtype": dtype, "shape": shape if shape is not None else [end - begin], "data_offsets": [begin, end]}


def test_what_was_built_is_read_back():
    data = an_object()
    content = parse_content(data, len(data))
    assert content.signature() == (("arrays/a", "F32", (2, 3)), ("arrays/b", "I64", (3,)))
    assert content.records == (("arrays", "array"), ("metrics", "metric"), ("config", "config"))
    assert content.metrics == {"metrics": {"num-examples": 7, "loss": 0.5, "each": [1.5, 2.5]}}
    assert content.configs["config"] == {"lr": 0.1, "name": "x", "raw": b"\x00\xff", "on": True, "many": ["a", "b"]}
    assert content.in_data_order()


def test_only_the_header_of_a_file_is_read(tmp_path):
    path = tmp_path / "object"
    path.write_bytes(an_object())
    fd = os.open(path, os.O_RDONLY)
    try:
        assert read_content(fd, path.stat().st_size) == parse_content(path.read_bytes(), path.stat().st_size)
    finally:
        os.close(fd)


def test_the_safetensors_library_reads_what_we_write():
    theirs = safetensors.numpy.load(an_object())
    assert set(theirs) == {"arrays/a", "arrays/b"}
    np.testing.assert_array_equal(theirs["arrays/a"], A)
    np.testing.assert_array_equal(theirs["arrays/b"], B)


def test_we_read_what_the_safetensors_library_writes():
    arrays = {"w": A, "n": B, "empty": np.zeros((0, 4), np.float16), "flag": np.array(True), "u": A.astype(np.uint8)}
    data = safetensors.numpy.save(arrays, metadata={"who": "they"})
    table = parse_table(data, len(data), ContentLimits())
    assert table.metadata == {"who": "they"}
    for tensor in table.tensors:
        ours = view(data[tensor.offset : tensor.offset + tensor.nbytes], tensor.dtype, tensor.shape)
        np.testing.assert_array_equal(ours, arrays[tensor.name])
        assert ours.dtype == arrays[tensor.name].dtype


def test_bfloat16_written_by_torch_is_read_as_the_same_values():
    values = torch.tensor([1.0, -3.140625, 1e30, float("inf"), 0.0], dtype=torch.bfloat16)
    data = save_torch({"x": values})
    (tensor,) = parse_table(data, len(data), ContentLimits()).tensors
    assert tensor.dtype == "BF16"
    words = view(data[tensor.offset : tensor.offset + tensor.nbytes], tensor.dtype, tensor.shape)
    np.testing.assert_array_equal(to_float32(words, "BF16"), values.float().numpy())


HOSTILE = {
    "empty": b"",
    "only a length": struct.pack("<Q", 2),
    "header longer than the file": struct.pack("<Q", 2**40) + b"{}",
    "header over the limit": struct.pack("<Q", 40 * 2**20) + b"{" + b" " * (40 * 2**20),
    "not JSON": framed("{nonsense"),
    "no object": framed("[1, 2]"),
    "leading space": framed(" {}"),
    "nested for ever": framed('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "a huge number": framed('{"a":' + "9" * 5000 + "}"),
    "no metadata": framed({"x": row(0, 1)}, b"x"),
    "metadata of another kind": framed({"__metadata__": {"hansa": 3}}),
    "a name twice": framed(f'{{"x":{json.dumps(row(0, 1))},"x":{json.dumps(row(1, 2))}}}', b"xy"),
    "overlapping": with_records([["r", "array", ["a", "b"]]], {"r/a": row(0, 2), "r/b": row(1, 3)}, b"xyz"),
    "a gap": with_records([["r", "array", ["a", "b"]]], {"r/a": row(0, 1), "r/b": row(2, 3)}, b"xyz"),
    "bytes left over": with_records([["r", "array", ["a"]]], {"r/a": row(0, 1)}, b"xyz"),
    "too few bytes": with_records([["r", "array", ["a"]]], {"r/a": row(0, 9)}, b"xyz"),
    "backwards": with_records([["r", "array", ["a"]]], {"r/a": row(3, 0, [3])}, b"xyz"),
    "shape and bytes disagree": with_records([["r", "array", ["a"]]], {"r/a": row(0, 3, [4])}, b"xyz"),
    "absurd dimensions": with_records([["r", "array", ["a"]]], {"r/a": row(0, 3, [2**40, 2**40])}, b"xyz"),
    "absurd and empty": with_records([["r", "array", ["a"]]], {"r/a": row(0, 0, [0, 2**62, 2**62])}),
    "negative": with_records([["r", "array", ["a"]]], {"r/a": row(0, 3, [-3])}, b"xyz"),
    "a boolean dimension": with_records([["r", "array", ["a"]]], {"r/a": row(0, 1, [True])}, b"x"),
    "unknown dtype": with_records([["r", "array", ["a"]]], {"r/a": row(0, 1, dtype="F8")}, b"x"),
    "dtype is a list": with_records([["r", "array", ["a"]]], {"r/a": row(0, 1) | {"dtype": ["F32"]}}, b"x"),
    "more keys than a tensor has": with_records([["r", "array", ["a"]]], {"r/a": row(0, 1) | {"z": 1}}, b"x"),
    "a control character in a name": with_records([["r", "array", ["a\n"]]], {"r/a\n": row(0, 1)}, b"x"),
    "a tensor in no record": with_records([], {"r/a": row(0, 1)}, b"x"),
    "a tensor in two records": with_records(
        [["r", "array", ["a/b"]], ["r/a", "array", ["b"]]], {"r/a/b": row(0, 1)}, b"x"
    ),
    "a key without tensor": with_records([["r", "array", ["a"]]]),
    "a record twice": with_records([["r", "metric", {}], ["r", "config", {}]]),
    "a record of an unknown kind": with_records([["r", "secret", {}]]),
    "a record of two parts": with_records([["r", "metric"]]),
    "records that are no list": framed({"__metadata__": {"hansa": '{"records": 3}'}}),
    "a metric that is text": with_records([["m", "metric", {"loss": "low"}]]),
    "a metric that is a boolean": with_records([["m", "metric", {"loss": True}]]),
    "a metric list with a boolean": with_records([["m", "metric", {"loss": [1, True]}]]),
    "a metric beyond 64 bits": with_records([["m", "metric", {"num-examples": 1, "loss": 10**400}]]),
    "a weight beyond 64 bits": with_records([["m", "metric", {"num-examples": 10**400}]]),
    "a metric list beyond 64 bits": with_records([["m", "metric", {"loss": [1, -(2**63) - 1]}]]),
    "a config that is an object": with_records([["c", "config", {"a": {"b": 1}}]]),
    "a config that is bad base64": with_records([["c", "config", {"a": {"b64": "%"}}]]),
    "a config of nested lists": with_records([["c", "config", {"a": [[1]]}]]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_objects_are_bad_updates(name):
    with pytest.raises(BadUpdate):
        parse_content(HOSTILE[name], len(HOSTILE[name]))


def test_limits_come_before_the_reading():
    data = an_object()
    for limits in (
        ContentLimits(object_bytes=len(data) - 1),
        ContentLimits(header_bytes=64),
        ContentLimits(tensors=1),
        ContentLimits(values=12),
    ):
        with pytest.raises(BadUpdate):
            parse_content(data, len(data), limits)
    assert parse_content(data, len(data), ContentLimits(values=15)).size == len(data)


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "object"
    path.write_bytes(an_object()[:40])
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(BadUpdate):
            read_content(fd, len(an_object()))
    finally:
        os.close(fd)
