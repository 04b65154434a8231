"""The export: what a factory may take and return, and graphs that compute what the model computes."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LinearRegression, LogisticRegression

from common.child.export import make_graph
from common.child.parent import Stop

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 4)).astype(np.float32)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(4, 3)
        self.norm = torch.nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.norm(self.fc(x)), dim=1)


def trained() -> Net:
    torch.manual_seed(1)
    net = Net()
    net.norm.running_mean.uniform_()
    return net.eval()


def arrays_of(net: Net) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in net.state_dict().items()}


def answers(graph: bytes, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def test_a_torch_module_without_arrays_is_given_them() -> None:
    net = trained()
    graph = make_graph(Net, arrays_of(net), {"x": ["batch", 4]})
    with torch.no_grad():
        expected = net(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(answers(graph, x=X), expected, atol=1e-5)
    np.testing.assert_allclose(answers(graph, x=X[:1]), expected[:1], atol=1e-5)
    shape = onnx.load_from_string(graph).graph.input[0].type.tensor_type.shape.dim
    assert [(dim.dim_param, dim.dim_value) for dim in shape] == [("batch", 0), ("", 4)]


def test_arrays_in_a_plain_list_are_taken_in_the_order_of_the_state() -> None:
    net = trained()
    plain = {str(i): array for i, array in enumerate(arrays_of(net).values())}
    assert make_graph(Net, plain, {"x": ["batch", 4]}) == make_graph(Net, arrays_of(net), {"x": ["batch", 4]})


def test_a_torch_factory_that_takes_arrays_keeps_what_it_made() -> None:
    def factory(arrays: dict[str, np.ndarray]) -> Net:
        net = trained()
        with torch.no_grad():
            net.fc.bias.zero_()
        return net

    graph = make_graph(factory, {}, {"features": [2, 4]})
    assert answers(graph, features=X[:2]).shape == (2, 3)


class Two(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a + b, a - b


def test_several_inputs_and_outputs_have_names() -> None:
    graph = onnx.load_from_string(make_graph(Two, {}, {"a": ["batch", 4], "b": ["batch", 4]}))
    assert [one.name for one in graph.graph.input] == ["a", "b"]
    assert [one.name for one in graph.graph.output] == ["output_0", "output_1"]


def test_an_onnx_model_is_taken_as_it_is() -> None:
    def factory(arrays: dict[str, np.ndarray]) -> onnx.ModelProto:
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        ins = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])]
        outs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])]
        graph = helper.make_graph([node], "g", ins, outs, [numpy_helper.from_array(arrays["w"], "w")])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    w = RNG.normal(size=(4, 2)).astype(np.float32)
    np.testing.assert_allclose(answers(make_graph(factory, {"w": w}, {"x": ["batch", 4]}), x=X), X @ w, atol=1e-6)


def test_a_scikit_learn_estimator_needs_skl2onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    fitted = LogisticRegression().fit(X, [0, 1, 0, 1, 0])
    with pytest.raises(Stop, match="skl2onnx") as stop:
        make_graph(lambda: fitted, {}, {"x": ["batch", 4]})
    assert stop.value.reason == "missing_imports"


@pytest.mark.parametrize("estimator", [LogisticRegression(), LinearRegression()])
def test_a_scikit_learn_estimator_answers_in_tensors(estimator: Any) -> None:
    pytest.importorskip("skl2onnx")
    fitted = estimator.fit(X, [0, 1, 0, 1, 0])
    graph = make_graph(lambda: fitted, {}, {"x": ["batch", 4]})
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert {output.type for output in session.get_outputs()} <= {"tensor(int64)", "tensor(float)"}
    last = session.run(None, {"x": X})[-1]
    expected = fitted.predict_proba(X) if hasattr(fitted, "predict_proba") else fitted.predict(X)[:, None]
    np.testing.assert_allclose(last, expected, atol=1e-5)


def test_anything_else_is_refused_by_name() -> None:
    def factory(arrays: dict[str, Any]) -> dict[str, Any]:
        return arrays

    with pytest.raises(Stop, match="returned a dict") as stop:
        make_graph(factory, {}, {})
    assert stop.value.reason == "bad_reply"
