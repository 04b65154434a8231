"""The Open Inference Protocol, JSON and binary."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from client_node.serving import oip, tfserving
from client_node.serving.signature import ServedVersion, signature
from common.errors import BadInput

ONE = signature([{"name": "x", "dtype": "F32", "shape": ["batch", 3]}], [{"name": "y", "dtype": "F32", "shape": []}])
TEXT = signature([{"name": "t", "dtype": "STR", "shape": ["n"]}], [{"name": "t_bytes", "dtype": "STR", "shape": ["n"]}])
SERVED = ServedVersion("alpha", "risk", 3, "champion", ONE)
ROWS = 100


def infer(body: object, wanted=ONE, raw: bytes | None = None):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return oip.parse_infer(data + (raw or b""), None if raw is None else len(data), wanted, ROWS)


def tensor(**changes):
    return {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]} | changes


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i2", "u4", "i8", "u8", "?"])
def test_every_dtype_has_a_json_form_scalars_too(dtype):
    for array in (np.ones((), dtype), np.ones(2, dtype), np.ones((2, 2), dtype).T, np.ones((0, 2), dtype)):
        assert json.loads(tfserving.answer_predict({"y": array}, row=False)) == {"outputs": array.tolist()}
        answer, _ = oip.answer_infer(infer({"inputs": [tensor()]}), {"y": array}, SERVED, "risk")
        assert json.loads(answer)["outputs"][0]["data"] == array.reshape(-1).tolist()


def test_json_tensors_may_be_flat_or_nested():
    for data in ([1, 2, 3], [[1, 2, 3]]):
        request = infer({"id": "7", "inputs": [tensor(data=data)]})
        assert request.arrays["x"].tolist() == [[1, 2, 3]]
        assert request.id == "7"
    answer, size = oip.answer_infer(request, {"y": np.array([[1, 2]], np.float32)}, SERVED, "risk")
    assert size is None
    assert json.loads(answer) == {
        "model_name": "risk", "model_version": "3", "id": "7",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}],
    }  # fmt: skip


def test_binary_tensors_follow_the_json_in_both_directions():
    raw = np.array([[1, 2, 3]], "<f4").tobytes()
    head = tensor(parameters={"binary_data_size": 12})
    del head["data"]
    for extra in (
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]},
    ):
        request = infer({"inputs": [head], **extra}, raw=raw)
        assert request.arrays["x"].tolist() == [[1, 2, 3]]
        answer, size = oip.answer_infer(request, {"y": np.array([[5]], np.float32)}, SERVED, "risk")
        assert json.loads(answer[:size])["outputs"][0]["parameters"] == {"binary_data_size": 4}
        assert answer[size:] == struct.pack("<f", 5)


def test_bytes_elements_carry_their_lengths():
    raw = struct.pack("<I", 2) + b"hi" + struct.pack("<I", 0)
    row = {"name": "t", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    request = infer({"inputs": [row], "parameters": {"binary_data_output": True}}, TEXT, raw)
    assert request.arrays["t"].tolist() == ["hi", ""]
    served = ServedVersion("alpha", "text", 1, "", TEXT)
    answer, size = oip.answer_infer(request, {"t_bytes": request.arrays["t"]}, served, "text")
    assert answer[size:] == raw


@pytest.mark.parametrize(
    ("body", "raw"),
    [
        (b"", None), ({}, None), ({"inputs": []}, None), ({"inputs": [3]}, None), ({"inputs": [tensor(name=3)]}, None),
        ({"inputs": [tensor(name="z")]}, None), ({"inputs": [tensor(datatype="FP64")]}, None),
        ({"inputs": [tensor(datatype=["FP32"])]}, None), ({"inputs": [tensor(shape=[1, 4])]}, None),
        ({"inputs": [tensor(shape=[-1, -3])]}, None), ({"inputs": [tensor(shape=[1, "3"])]}, None),
        ({"inputs": [tensor(shape=[2**62, 2**62])]}, None), ({"inputs": [tensor(data=[1, 2])]}, None),
        ({"inputs": [tensor(), tensor()]}, None), ({"inputs": [tensor()], "id": 3}, None),
        ({"inputs": [tensor()], "outputs": [{"name": "w"}]}, None), ({"inputs": [tensor()], "outputs": [{"name": []}]}, None),
        ({"inputs": [tensor()], "outputs": 3}, None), ({"inputs": [tensor()], "parameters": 3}, None),
        ({"inputs": [tensor(parameters={"binary_data_size": 12})]}, None),
        ({"inputs": [tensor(parameters={"binary_data_size": 12})]}, b"1234567890"),
        ({"inputs": [tensor(parameters={"binary_data_size": -1})]}, b"123"),
        ({"inputs": [tensor(parameters={"binary_data_size": True})]}, b"123"),
        ({"inputs": [tensor(parameters={"binary_data_size": 4})]}, b"1234"),
        ({"inputs": [tensor(parameters={"binary_data_size": 12})]}, b"123456789012345"),
        ({"inputs": [tensor()]}, b"left over"), ({"inputs": [tensor(data=None)]}, None),
    ],
)  # fmt: skip
def test_a_malformed_infer_is_bad_input(body, raw):
    with pytest.raises(BadInput):
        infer(body, raw=raw)


@pytest.mark.parametrize("size", [-1, 10**9])
def test_a_json_length_outside_the_body_is_bad_input(size):
    with pytest.raises(BadInput):
        oip.parse_infer(json.dumps({"inputs": [tensor()]}).encode(), size, ONE, ROWS)


@pytest.mark.parametrize("raw", [b"\x01", struct.pack("<I", 9) + b"short", struct.pack("<I", 1) + b"\xff"])
def test_broken_bytes_elements_are_bad_input(raw):
    row = {"name": "t", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    with pytest.raises(BadInput):
        infer({"inputs": [row]}, TEXT, raw)


def test_metadata_has_the_documents_form():
    assert json.loads(oip.model_metadata(SERVED, "risk")) == {
        "name": "risk", "versions": ["3"], "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": []}],
    }  # fmt: skip
    assert "binary_tensor_data" in json.loads(oip.server_metadata("1"))["extensions"]
