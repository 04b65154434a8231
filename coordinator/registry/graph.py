"""An ONNX graph that somebody else made: checked, then parted from its weights.

What is left of the graph names its large initializers as external data that lies nowhere (``LOCATION``): the node hands
the engine the packed tensors by name, and a graph whose tensors are not all handed over does not load.

Rules: no external data in what comes in, only operators of the ONNX domains (a custom operator would be native code),
and limits on bytes and nodes.  Whatever breaks them is ``BadInput``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from common.errors import BadInput
from common.manifest import Port

LOCATION = "packed"
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
MAX_MODEL = 1900 * 1024 * 1024  # bytes; protobuf ends at 2 GiB
MAX_GRAPH = 64 * 1024 * 1024  # bytes of the graph without its weights
MAX_NODES = 50_000
MAX_PORTS = 64
_KEPT = 32  # elements of a float initializer that is not worth parting from the graph
_KEPT_WHOLE = 1024  # the same for integers: shapes and axes, which the engine folds at load

_T = onnx.TensorProto
DTYPES: dict[int, str] = {
    _T.FLOAT: "F32", _T.DOUBLE: "F64", _T.FLOAT16: "F16", _T.BFLOAT16: "BF16", _T.INT64: "I64", _T.INT32: "I32",
    _T.INT16: "I16", _T.INT8: "I8", _T.UINT8: "U8", _T.UINT16: "U16", _T.UINT32: "U32", _T.UINT64: "U64",
    _T.BOOL: "BOOL", _T.STRING: "STR",
}  # fmt: skip
_PARTED = frozenset(DTYPES) - {_T.BFLOAT16, _T.STRING}
_FLOATS = frozenset({_T.FLOAT, _T.DOUBLE, _T.FLOAT16})


@dataclass(frozen=True)
class Parted:
    """A graph and its weights, apart."""

    graph: bytes
    weights: dict[str, NDArray[Any]]
    axes: dict[str, int]  # the axis of output channels, where it is not the first
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    opsets: dict[str, int]


def part(data: bytes) -> Parted:
    """Return the ONNX model in ``data``, checked and parted from its weights.

    Raises:
        BadInput: it is no ONNX model, or one we do not take.
    """
    model = _load(data)
    graph = model.graph
    weights: dict[str, NDArray[Any]] = {}
    for tensor in graph.initializer:
        if _worth_parting(tensor):
            weights[tensor.name] = _values(tensor)
    axes = _channel_axes(graph, weights)
    inputs, outputs = _ports(graph)
    _strip(model, set(weights))
    stripped = model.SerializeToString(deterministic=True)
    if len(stripped) > MAX_GRAPH:
        raise BadInput(f"the graph is {len(stripped)} bytes without its weights; at most {MAX_GRAPH} are allowed")
    opsets = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    return Parted(stripped, weights, axes, inputs, outputs, opsets)


def _load(data: bytes) -> onnx.ModelProto:
    if len(data) > MAX_MODEL:
        raise BadInput(f"an ONNX model of {len(data)} bytes is over the limit of {MAX_MODEL}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError has no common base across its back ends
        raise BadInput("this is not an ONNX model") from error
    _check_tensors(model)
    _check_nodes(model)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise BadInput(f"the ONNX checker refuses the model: {str(error).strip().splitlines()[0][:300]}") from error
    return model


def _check_tensors(model: onnx.ModelProto) -> None:
    names: set[str] = set()
    for tensor in model.graph.initializer:
        if not tensor.name or tensor.name in names:
            raise BadInput(f"initializer {tensor.name[:80]!r} has no name or is given twice")
        names.add(tensor.name)
    for tensor in _tensors(model):
        if tensor.data_location == _T.EXTERNAL or tensor.external_data:
            raise BadInput(
                f"tensor {tensor.name[:80]!r} is kept outside the model",
                next_step="save the model with its weights inside: onnx.save(model, path, save_as_external_data=False)",
            )


def _check_nodes(model: onnx.ModelProto) -> None:
    local = {(f.domain, f.name) for f in model.functions}
    for number, node in enumerate(_nodes(model)):
        if number >= MAX_NODES:
            raise BadInput(f"the graph has more than {MAX_NODES} nodes")
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in local:
            raise BadInput(f"operator {node.domain[:80]}.{node.op_type[:80]} is not one of ONNX's own")


def _graphs(model: onnx.ModelProto) -> Iterator[Any]:
    """Yield every graph and function body, the nested ones too."""
    waiting: list[Any] = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(model):
        yield from graph.node


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(model):
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from [attribute.t] if attribute.HasField("t") else []
            yield from attribute.tensors


def _worth_parting(tensor: onnx.TensorProto) -> bool:
    size = int(np.prod(tensor.dims, dtype=object))
    kept = _KEPT if tensor.data_type in _FLOATS else _KEPT_WHOLE
    return tensor.data_type in _PARTED and size > kept


def _values(tensor: onnx.TensorProto) -> NDArray[Any]:
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        raise BadInput(f"initializer {tensor.name[:80]!r}: its data does not fill its shape") from error


def _channel_axes(graph: onnx.GraphProto, weights: dict[str, NDArray[Any]]) -> dict[str, int]:
    """Return the output-channel axis of the weights that do not have it first."""
    axes: dict[str, int] = {}
    for node in graph.node:
        weight = node.input[1] if len(node.input) > 1 else ""
        if weight not in weights or weights[weight].ndim < 2:
            continue
        if node.op_type == "MatMul":
            axes[weight] = weights[weight].ndim - 1
        elif node.op_type == "ConvTranspose" or (node.op_type == "Gemm" and not _transposed(node)):
            axes[weight] = 1
    return axes


def _transposed(node: onnx.NodeProto) -> bool:
    return any(a.name == "transB" and a.i for a in node.attribute)


def _ports(graph: onnx.GraphProto) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    constants = {t.name for t in graph.initializer}
    inputs = tuple(_port(value) for value in graph.input if value.name not in constants)
    outputs = tuple(_port(value) for value in graph.output)
    if not 1 <= len(inputs) <= MAX_PORTS or not 1 <= len(outputs) <= MAX_PORTS:
        raise BadInput(f"the graph has {len(inputs)} inputs and {len(outputs)} outputs; 1-{MAX_PORTS} are allowed")
    return inputs, outputs


def _port(value: onnx.ValueInfoProto) -> Port:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in DTYPES:
        raise BadInput(
            f"input or output {value.name[:80]!r} must be a tensor",
            next_step="export without sequences and maps; for scikit-learn: options={'zipmap': False}",
        )
    dims = [d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in kind.shape.dim]
    return Port(value.name, DTYPES[kind.elem_type], tuple(dims))


def _strip(model: onnx.ModelProto, names: set[str]) -> None:
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.name in names:
            bare = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            bare.data_location = _T.EXTERNAL
            bare.external_data.add(key="location", value=LOCATION)
            tensor.CopyFrom(bare)
    # Before IR 4 initializers had to be listed as inputs too; there the engine would let a caller replace them.
    constants = {t.name for t in graph.initializer}
    kept = [value for value in graph.input if value.name not in constants]
    del graph.input[:]
    graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 4)
    model.doc_string = graph.doc_string = ""
    del model.metadata_props[:]
