"""TensorFlow Serving's REST API: requests and answers in the form of tensorflow/serving g3doc/api_rest.md."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from client_node.serving import tfserving
from client_node.serving.signature import ServedVersion, signature
from common.errors import BadInput

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
