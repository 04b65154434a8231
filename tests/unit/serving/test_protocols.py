"""The two protocols, against what their documents say.

The TensorFlow Serving requests and answers are those of tensorflow/serving g3doc/api_rest.md in form.
"""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest

from client_node.serving import oip, tfserving
from client_node.serving.catalogue import Catalogue
from client_node.serving.routes import Act, Route, route
from client_node.serving.signature import ServedVersion, signature
from common.errors import BadInput, NotFound, PlatformError

ONE = signature([{"name": "x", "dtype": "F32", "shape": ["batch", 3]}], [{"name": "y", "dtype": "F32", "shape": []}])
TWO = signature(
    [{"name": "a", "dtype": "F32", "shape": ["n"]}, {"name": "b", "dtype": "I64", "shape": ["n", 2]}],
    [{"name": "y", "dtype": "F32", "shape": ["n"]}, {"name": "z", "dtype": "I64", "shape": ["n"]}],
)
TEXT = signature([{"name": "t", "dtype": "STR", "shape": ["n"]}], [{"name": "t_bytes", "dtype": "STR", "shape": ["n"]}])
SERVED = ServedVersion("alpha", "risk", 3, "champion", ONE)
ROWS = 100


def predict(body: object, wanted=ONE):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return tfserving.parse_predict(data, wanted, ROWS)


# ---- TensorFlow Serving --------------------------------------------------------------------------------------------


def test_row_format_with_one_unnamed_tensor():
    arrays, row = predict({"instances": [[1, 2, 3], [4.5, 5, 6]]})
    assert row
    assert arrays["x"].dtype == np.float32
    assert arrays["x"].tolist() == [[1, 2, 3], [4.5, 5, 6]]
    answer = tfserving.answer_predict({"y": np.array([[0.5], [1.5]], np.float32)}, row=True)
    assert json.loads(answer) == {"predictions": [[0.5], [1.5]]}


def test_row_format_with_named_tensors():
    arrays, _ = predict({"instances": [{"a": 1, "b": [1, 2]}, {"a": 2, "b": [3, 4]}]}, TWO)
    assert arrays["a"].tolist() == [1, 2]
    assert arrays["b"].tolist() == [[1, 2], [3, 4]]
    outputs = {"y": np.array([0.5, 1.5], np.float32), "z": np.array([7, 8])}
    assert json.loads(tfserving.answer_predict(outputs, row=True)) == {
        "predictions": [{"y": 0.5, "z": 7}, {"y": 1.5, "z": 8}]
    }


def test_columnar_format():
    arrays, row = predict({"inputs": {"a": [1, 2], "b": [[1, 2], [3, 4]]}}, TWO)
    assert not row
    assert arrays["b"].dtype == np.int64
    outputs = {"y": np.array([0.5], np.float32), "z": np.array([7])}
    assert json.loads(tfserving.answer_predict(outputs, row=False)) == {"outputs": {"y": [0.5], "z": [7]}}
    arrays, _ = predict({"inputs": [[1, 2, 3]], "signature_name": "serving_default"})
    assert arrays["x"].shape == (1, 3)
    assert json.loads(tfserving.answer_predict({"y": np.ones((1, 2))}, row=False)) == {"outputs": [[1.0, 1.0]]}


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i2", "u4", "i8", "u8", "?"])
def test_every_dtype_has_a_json_form_scalars_too(dtype):
    for array in (np.ones((), dtype), np.ones(2, dtype), np.ones((2, 2), dtype).T, np.ones((0, 2), dtype)):
        assert json.loads(tfserving.answer_predict({"y": array}, row=False)) == {"outputs": array.tolist()}
        answer, _ = oip.answer_infer(infer({"inputs": [tensor()]}), {"y": array}, SERVED, "risk")
        assert json.loads(answer)["outputs"][0]["data"] == array.reshape(-1).tolist()


def test_bare_nan_and_infinity_go_in_and_out():
    arrays, _ = predict(b'{"instances": [[NaN, Infinity, -Infinity]]}')
    assert math.isnan(arrays["x"][0, 0])
    assert arrays["x"][0, 1:].tolist() == [math.inf, -math.inf]
    answer = tfserving.answer_predict({"y": arrays["x"]}, row=True)
    assert answer == b'{"predictions":[[NaN,Infinity,-Infinity]]}'


def test_binary_strings_are_base64_in_and_out():
    arrays, _ = predict({"instances": [{"b64": "aGk="}, "there"]}, TEXT)
    assert arrays["t"].tolist() == ["hi", "there"]
    answer = tfserving.answer_predict({"t_bytes": arrays["t"]}, row=True)
    assert json.loads(answer) == {"predictions": [{"b64": "aGk="}, {"b64": "dGhlcmU="}]}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"nonsense", b"[1]", b'{"instances": [[1,2,3]]', {}, {"instances": []}, {"instances": 3},
        {"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}, {"instances": [[1, 2]]}, {"instances": [[1, 2, 3], [1]]},
        {"instances": [["a", "b", "c"]]}, {"instances": [[True, False, True]]}, {"instances": [[{}, 1, 2]]},
        {"instances": [1, 2, 3]}, {"instances": [[1, 2, 3]], "signature_name": "other"},
        {"instances": [[1, 2, 3]], "signature_name": ["x"]}, {"instances": [{"wrong": [1, 2, 3]}]},
        {"inputs": {"wrong": [1]}}, {"inputs": {}}, {"instances": [[1, 2, 3]] * 101}, {"inputs": "text"},
        b'{"instances":' + b"[" * 900 + b"]" * 900 + b"}", b'{"instances":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"instances": [[1, 2, 3]]}\xff', {"instances": [[1, 2, 3], {"x": [1, 2, 3]}]}, {"inputs": None},
    ],
)  # fmt: skip
def test_a_malformed_predict_is_bad_input(body):
    with pytest.raises(BadInput):
        predict(body)


@pytest.mark.parametrize("value", [[1.5, 2], [True, 1], ["1", "2"], [2**63, 0], [1, None], [[1, 2], [3]]])
def test_an_integer_input_takes_whole_numbers_only(value):
    with pytest.raises(BadInput):
        predict({"inputs": {"a": [1], "b": [value]}}, TWO)


def test_one_long_string_does_not_make_every_element_as_long():
    body = {"instances": ["x" * 1_000_000, *["y"] * 90]}
    arrays, _ = predict(body, TEXT)
    assert arrays["t"].nbytes < 10_000
    with pytest.raises(BadInput):
        predict({"instances": [[1, 2, "x" * 1_000_000]] + [[1, 2, 3]] * 90})


def test_status_and_metadata_have_the_documents_form():
    assert json.loads(tfserving.status([SERVED])) == {
        "model_version_status": [
            {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    data = json.loads(tfserving.metadata(SERVED, "risk"))
    assert data["model_spec"] == {"name": "risk", "signature_name": "", "version": "3"}
    definition = data["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert definition["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert [d["size"] for d in definition["inputs"]["x"]["tensor_shape"]["dim"]] == ["-1", "3"]
    assert definition["method_name"] == "tensorflow/serving/predict"


# ---- Open Inference Protocol ---------------------------------------------------------------------------------------


def infer(body: object, wanted=ONE, raw: bytes | None = None):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return oip.parse_infer(data + (raw or b""), None if raw is None else len(data), wanted, ROWS)


def tensor(**changes):
    return {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]} | changes


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


# ---- paths and names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "meaning"),
    [
        ("GET", "/v1/models/half", Route(Act.V1_STATUS, "half")),
        ("GET", "/v1/models/half/versions/2", Route(Act.V1_STATUS, "half", 2)),
        ("GET", "/v1/models/half/labels/canary", Route(Act.V1_STATUS, "half", None, "canary")),
        ("GET", "/v1/models/half/versions/2/metadata", Route(Act.V1_METADATA, "half", 2)),
        ("GET", "/v1/models/half/metadata", Route(Act.V1_METADATA, "half")),
        ("POST", "/v1/models/half:predict", Route(Act.V1_PREDICT, "half")),
        ("POST", "/v1/models/a.half/versions/2:predict", Route(Act.V1_PREDICT, "a.half", 2)),
        ("POST", "/v1/models/half/labels/canary:predict", Route(Act.V1_PREDICT, "half", None, "canary")),
        ("GET", "/v2", Route(Act.V2_SERVER)),
        ("GET", "/v2/health/live", Route(Act.V2_LIVE)),
        ("GET", "/v2/health/ready", Route(Act.V2_READY)),
        ("GET", "/v2/models/half", Route(Act.V2_MODEL, "half")),
        ("GET", "/v2/models/half/ready", Route(Act.V2_MODEL_READY, "half")),
        ("GET", "/v2/models/half/versions/2/ready", Route(Act.V2_MODEL_READY, "half", 2)),
        ("POST", "/v2/models/half/infer", Route(Act.V2_INFER, "half")),
        ("POST", "/v2/models/half/versions/2/infer", Route(Act.V2_INFER, "half", 2)),
    ],
)
def test_paths_mean_what_the_protocols_say(method, path, meaning):
    assert route(method, path) == meaning


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/half:predict"), ("POST", "/v1/models/half"), ("POST", "/v1/models/half:regress"),
        ("GET", "/v1/models/"), ("GET", "/"), ("DELETE", "/v2/models/half"), ("GET", "/v2/models/half/infer"),
        ("GET", "/v1/models/half/versions/x"), ("GET", "/v2/models/half/versions/" + "9" * 40), ("GET", "/etc/passwd"),
        ("POST", "/v1/models/half/versions/1/labels/a:predict"),
    ],
)  # fmt: skip
def test_other_paths_are_refused(method, path):
    with pytest.raises(PlatformError):
        route(method, path)


class Item:
    def __init__(self, served: ServedVersion) -> None:
        self.served = served


def test_a_model_answers_to_its_name_its_version_and_its_label():
    catalogue: Catalogue[Item] = Catalogue()
    catalogue.put(Item(SERVED))
    for name, version, label in (("risk", None, ""), ("alpha.risk", 3, ""), ("risk", None, "champion")):
        assert catalogue.find(name, version, label).served is SERVED
    with pytest.raises(NotFound, match=r"Servable not found for request: Latest\(half\)"):
        catalogue.find("half")
    with pytest.raises(NotFound, match=r"Servable not found for request: Specific\(risk, 2\)"):
        catalogue.find("risk", 2)
    with pytest.raises(NotFound, match="Unrecognized servable version label: canary"):
        catalogue.find("risk", None, "canary")


def test_a_name_of_two_tenants_must_be_qualified():
    catalogue: Catalogue[Item] = Catalogue()
    other = ServedVersion("beta", "risk", 1, "", ONE)
    catalogue.put(Item(SERVED))
    catalogue.put(Item(other))
    with pytest.raises(NotFound, match=r"alpha\.risk, beta\.risk"):
        catalogue.find("risk")
    assert catalogue.find("beta.risk").served is other
    catalogue.remove("alpha", "risk")
    assert catalogue.find("risk").served is other


def test_a_new_version_takes_the_place_of_the_old_one():
    catalogue: Catalogue[Item] = Catalogue()
    catalogue.put(Item(SERVED))
    catalogue.put(Item(ServedVersion("alpha", "risk", 4, "", ONE)))
    assert [item.served.version for item in catalogue.items()] == [4]
