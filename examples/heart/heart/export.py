"""The served graph: thirteen measurements in, one probability out, nothing of ours needed to run it."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from heart.data import COLUMNS, NUMERIC, ONE_HOT


def graph(arrays: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """Return the model that saw every row.

    Args:
        arrays: The trained ``weight``, shape (FEATURES, folds + 1), and ``bias``, shape (folds + 1,).

    Returns:
        A graph from ``x``, shape (batch, 13), NaN = not measured, to ``probability``, shape (batch, 1).
    """
    index = {name: i for i, name in enumerate(COLUMNS)}
    centre, scale = (np.array(part, np.float32) for part in zip(*NUMERIC.values(), strict=True))
    nodes = [
        _constant("numeric_columns", np.array([index[name] for name in NUMERIC])),
        _constant("category_columns", np.array([index[name] for name, _ in ONE_HOT])),
        _constant("codes", np.array([code for _, code in ONE_HOT], np.float32)),
        _constant("centre", centre),
        _constant("scale", scale),
        _constant("zero", np.array(0, np.float32)),
        helper.make_node("Gather", ["x", "numeric_columns"], ["values"], axis=1),
        helper.make_node("Sub", ["values", "centre"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["scaled"]),
        helper.make_node("IsNaN", ["scaled"], ["unknown"]),
        helper.make_node("Where", ["unknown", "zero", "scaled"], ["numeric"]),
        helper.make_node("IsNaN", ["x"], ["missing_flags"]),
        helper.make_node("Cast", ["missing_flags"], ["missing"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["x", "category_columns"], ["categories"], axis=1),
        helper.make_node("Equal", ["categories", "codes"], ["matches"]),
        helper.make_node("Cast", ["matches"], ["one_hot"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["numeric", "missing", "one_hot"], ["features"], axis=1),
        helper.make_node("MatMul", ["features", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    body = helper.make_graph(
        nodes,
        "heart",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", len(COLUMNS)])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", 1])],
        [
            numpy_helper.from_array(np.ascontiguousarray(arrays["weight"][:, -1:]), "weight"),
            numpy_helper.from_array(arrays["bias"][-1:], "bias"),
        ],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _constant(name: str, value: NDArray[np.generic]) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))
