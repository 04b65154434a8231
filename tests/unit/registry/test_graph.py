"""ONNX graphs from elsewhere: parted from their weights without loss, or refused."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from common.errors import BadInput
from common.manifest import Port
from common.tensors.packed import unpack
from coordinator.compression.packing import pack_weights
from coordinator.registry import graph as graphs
from coordinator.registry.graph import part

W = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)


def a_model(nodes=None, initializers=None, *, inputs=None, outputs=None, domain="", **extra) -> onnx.ModelProto:
    nodes = nodes or [helper.make_node("MatMul", ["x", "w"], ["y"])]
    inputs = inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])]
    outputs = outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16])]
    initializers = [numpy_helper.from_array(W, "w")] if initializers is None else initializers
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers, **extra)
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def run(parted: graphs.Parted, packed: bytes, feeds: dict) -> list:
    options = ort.SessionOptions()
    weights = unpack(packed)
    values = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(w)) for w in weights.values()]
    options.add_external_initializers(list(weights), values)
    session = ort.InferenceSession(parted.graph, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def exported(net: torch.nn.Module, example: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (example,), buffer, dynamo=False, input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        )  # fmt: skip
    return buffer.getvalue()


@pytest.mark.parametrize(("how", "tolerance"), [("fp32", 1e-6), ("fp16", 2e-3), ("int8", 3e-2)])
def test_a_network_exported_by_torch_answers_as_torch_does(how, tolerance):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.ReLU(), torch.nn.ConvTranspose2d(16, 4, 2),
        torch.nn.Flatten(), torch.nn.Linear(4 * 49, 10),
    )  # fmt: skip
    parted = part(exported(net, torch.zeros(1, 3, 8, 8)))
    packed = pack_weights(parted.weights, how, parted.axes)
    x = np.random.default_rng(1).normal(size=(5, 3, 8, 8)).astype(np.float32)
    (y,) = run(parted, packed.data, {"x": x})
    np.testing.assert_allclose(y, net(torch.tensor(x)).detach().numpy(), atol=tolerance)
    assert parted.inputs == (Port("x", "F32", ("batch", 3, 8, 8)),)
    assert parted.outputs == (Port("y", "F32", ("batch", 10)),)


def test_no_weight_is_left_in_the_graph():
    parted = part(a_model().SerializeToString())
    assert W.tobytes()[:64] not in parted.graph
    np.testing.assert_array_equal(parted.weights["w"], W)
    assert parted.axes == {"w": 1}  # MatMul has its output channels last


def test_a_gemm_says_by_trans_b_where_its_output_channels_are():
    plain = part(a_model([helper.make_node("Gemm", ["x", "w"], ["y"])]).SerializeToString())
    turned = a_model(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], [numpy_helper.from_array(W.T.copy(), "w")]
    )
    assert plain.axes == {"w": 1}
    assert part(turned.SerializeToString()).axes == {}


def test_an_initializer_that_was_listed_as_an_input_is_none_afterwards():
    model = a_model()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [8, 16]))
    parted = part(model.SerializeToString())
    assert [p.name for p in parted.inputs] == ["x"]
    x = np.ones((2, 8), np.float32)
    (y,) = run(parted, pack_weights(parted.weights, "fp32", parted.axes).data, {"x": x})
    np.testing.assert_allclose(y, x @ W, rtol=1e-5)


def test_the_same_model_parts_into_the_same_bytes():
    data = a_model().SerializeToString()
    assert part(data).graph == part(data).graph


def external(tensor: onnx.TensorProto, where: str) -> onnx.TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=where)
    return tensor


def nested_external() -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=external(numpy_helper.from_array(W, "v"), "/etc/passwd"))],
        "body", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)],
    )  # fmt: skip
    condition = numpy_helper.from_array(np.array(True), "cond")
    return a_model([helper.make_node("If", ["cond"], ["y"], then_branch=body, else_branch=body)], [condition])


def cut_short() -> onnx.ModelProto:
    tensor = numpy_helper.from_array(W, "w")
    tensor.raw_data = tensor.raw_data[:-4]
    return a_model(initializers=[tensor])


def a_sequence_output() -> onnx.ModelProto:
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    output = helper.make_value_info("y", helper.make_sequence_type_proto(element))
    return a_model([helper.make_node("SequenceConstruct", ["x"], ["y"])], [], outputs=[output])


def many_nodes() -> onnx.ModelProto:
    nodes = [helper.make_node("Identity", ["x" if i == 0 else f"t{i}"], [f"t{i + 1}"]) for i in range(60)]
    return a_model([*nodes, helper.make_node("MatMul", ["t60", "w"], ["y"])])


REFUSED = {
    "a custom operator": lambda: a_model([helper.make_node("Run", ["x"], ["y"], domain="evil")], domain="evil"),
    "weights outside": lambda: a_model(initializers=[external(numpy_helper.from_array(W, "w"), "../../secret")]),
    "weights outside, deep inside": nested_external,
    "an initializer twice": lambda: a_model(initializers=[numpy_helper.from_array(W, "w")] * 2),
    "a weight cut short": cut_short,
    "a sequence as output": a_sequence_output,
    "an operator that does not exist": lambda: a_model([helper.make_node("Nonsense", ["x"], ["y"])]),
    "an input that nobody makes": lambda: a_model([helper.make_node("MatMul", ["z", "w"], ["y"])]),
    "no nodes and no outputs": lambda: onnx.ModelProto(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_we_do_not_take_is_bad_input(name):
    with pytest.raises(BadInput):
        part(REFUSED[name]().SerializeToString())


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"not a model", bytes(range(256))])
def test_noise_is_bad_input(data):
    with pytest.raises(BadInput):
        part(data)


def test_the_limits_are_limits(monkeypatch):
    monkeypatch.setattr(graphs, "MAX_NODES", 50)
    with pytest.raises(BadInput, match="nodes"):
        part(many_nodes().SerializeToString())
    monkeypatch.setattr(graphs, "MAX_GRAPH", 100)
    with pytest.raises(BadInput, match="without its weights"):
        part(a_model().SerializeToString())
    monkeypatch.setattr(graphs, "MAX_MODEL", 100)
    with pytest.raises(BadInput, match="over the limit"):
        part(a_model().SerializeToString())
