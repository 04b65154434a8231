"""The Open Inference Protocol, version 2, over REST, with the binary tensor extension.

A binary request is JSON followed by the raw little-endian tensors in the order of its inputs; the header
``Inference-Header-Content-Length`` says where the JSON ends.  The answer has the same form where it was asked for.
BYTES elements are each a 4-byte little-endian length and that many bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_node.serving import text
from client_node.serving.signature import TEXT, Arrays, ServedVersion, Signature, TensorSpec, check, from_json
from common.errors import BadInput, BadUpdate
from common.tensors.dtypes import raw, view

LENGTH_HEADER = b"inference-header-content-length"
DATATYPES = {
    "F64": "FP64", "F32": "FP32", "F16": "FP16", "BF16": "BF16", "I64": "INT64", "I32": "INT32", "I16": "INT16",
    "I8": "INT8", "U8": "UINT8", "U16": "UINT16", "U32": "UINT32", "U64": "UINT64", "BOOL": "BOOL", TEXT: "BYTES",
}  # fmt: skip
_MAX_RANK = 32


@dataclass(frozen=True)
class InferRequest:
    """A request, understood."""

    id: str
    arrays: Arrays
    outputs: tuple[str, ...]  # () = all
    binary: frozenset[str] = field(default_factory=frozenset)  # outputs wanted as raw bytes
    all_binary: bool = False


def parse_infer(body: bytes, json_size: int | None, signature: Signature, max_rows: int) -> InferRequest:
    """Return an inference request.

    Args:
        body: The whole body.
        json_size: Value of ``Inference-Header-Content-Length``; None = the body is JSON only.
        signature: What the model takes.
        max_rows: Largest first dimension.

    Raises:
        BadInput: malformed, or not what the model takes.
    """
    if json_size is not None and not 0 <= json_size <= len(body):
        raise BadInput(f"Inference-Header-Content-Length {json_size} is outside the body of {len(body)} bytes")
    view_ = memoryview(body)
    request = text.read_object(body if json_size is None else view_[:json_size])
    rest = view_[json_size:] if json_size is not None else view_[len(body) :]
    arrays = _inputs(request.get("inputs"), rest, signature)
    check(arrays, signature, max_rows)
    names, binary = _wanted(request.get("outputs"), signature)
    id_ = request.get("id", "")
    if not isinstance(id_, str):
        raise BadInput("id must be a string")
    return InferRequest(id_, arrays, names, binary, _parameter(request, "binary_data_output") is True)


def answer_infer(request: InferRequest, outputs: Arrays, served: ServedVersion, name: str) -> tuple[bytes, int | None]:
    """Return the answer's body, and the length of its JSON if raw tensors follow (else None)."""
    rows: list[dict[str, Any]] = []
    parts: list[bytes] = []
    dtypes = {spec.name: spec.dtype for spec in served.signature.outputs}
    for output in request.outputs or tuple(outputs):
        array = outputs[output]
        row: dict[str, Any] = {"name": output, "datatype": DATATYPES[dtypes[output]], "shape": list(array.shape)}
        if output in request.binary or (request.all_binary and not request.outputs):
            data = _raw(array, dtypes[output])
            parts.append(data)
            row["parameters"] = {"binary_data_size": len(data)}
        else:
            row["data"] = text.plain(array.reshape(-1))
        rows.append(row)
    answer: dict[str, Any] = {"model_name": name, "model_version": str(served.version), "outputs": rows}
    if request.id:
        answer["id"] = request.id
    head = text.write(answer)
    return (head + b"".join(parts), len(head)) if parts else (head, None)


def server_metadata(release: str) -> bytes:
    """Return the answer to a server metadata request."""
    return text.write({"name": "hansa", "version": release, "extensions": ["binary_tensor_data"]})


def model_metadata(served: ServedVersion, name: str) -> bytes:
    """Return the answer to a model metadata request."""
    return text.write(
        {
            "name": name,
            "versions": [str(served.version)],
            "platform": "onnxruntime_onnx",
            "inputs": [_tensor_metadata(spec) for spec in served.signature.inputs],
            "outputs": [_tensor_metadata(spec) for spec in served.signature.outputs],
        }
    )


def _tensor_metadata(spec: TensorSpec) -> dict[str, Any]:
    shape = [-1 if d is None else d for d in spec.shape]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}


def _inputs(rows: object, rest: memoryview, signature: Signature) -> Arrays:
    if not isinstance(rows, list) or not rows:
        raise BadInput("'inputs' must be a list with at least one tensor")
    arrays: Arrays = {}
    at = 0
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise BadInput("each input must be an object with a name")
        spec = signature.spec(row["name"])
        if spec.name in arrays:
            raise BadInput(f"input {spec.name!r} is given twice")
        shape = _shape(row, spec)
        size = _parameter(row, "binary_data_size")
        if size is None:
            arrays[spec.name] = _from_data(row, shape, spec)
            continue
        if type(size) is not int or not 0 <= size <= len(rest) - at:
            raise BadInput(f"input {spec.name!r}: binary_data_size {size!r} is outside the body")
        arrays[spec.name] = _from_raw(rest[at : at + size], shape, spec)
        at += size
    if at != len(rest):
        raise BadInput(f"{len(rest) - at} bytes follow the last binary tensor")
    return arrays


def _shape(row: dict[str, Any], spec: TensorSpec) -> tuple[int, ...]:
    shape = row.get("shape")
    if (
        not isinstance(shape, list)
        or len(shape) > _MAX_RANK
        or not all(type(d) is int and 0 <= d < 2**40 for d in shape)
    ):
        raise BadInput(f"input {spec.name!r} has no valid shape")
    if row.get("datatype") != DATATYPES[spec.dtype]:
        raise BadInput(f"input {spec.name!r} is {str(row.get('datatype'))[:20]}, expected {DATATYPES[spec.dtype]}")
    return tuple(shape)


def _dimension(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**40


def _parameter(row: dict[str, Any], name: str) -> object:
    parameters = row.get("parameters", {})
    if not isinstance(parameters, dict):
        raise BadInput("parameters must be an object")
    return parameters.get(name)


def _from_data(row: dict[str, Any], shape: tuple[int, ...], spec: TensorSpec) -> NDArray[Any]:
    if "data" not in row:
        raise BadInput(f"input {spec.name!r} has neither data nor binary_data_size")
    array = from_json(row["data"], spec)
    if array.size != int(np.prod(shape, dtype=object)):
        raise BadInput(f"input {spec.name!r} has {array.size} values, its shape {list(shape)} wants another number")
    return array.reshape(shape)


def _from_raw(data: memoryview, shape: tuple[int, ...], spec: TensorSpec) -> NDArray[Any]:
    if spec.dtype == TEXT:
        return _texts(data, shape, spec)
    try:
        return view(data, spec.dtype, shape)
    except (BadUpdate, ValueError) as error:
        raise BadInput(f"input {spec.name!r}: {len(data)} bytes do not fill shape {list(shape)}") from error


def _texts(data: memoryview, shape: tuple[int, ...], spec: TensorSpec) -> NDArray[Any]:
    values: list[str] = []
    at = 0
    try:
        while at < len(data):
            (size,) = struct.unpack_from("<I", data, at)
            if at + 4 + size > len(data):
                raise BadInput(f"input {spec.name!r}: an element ends outside its bytes")
            values.append(bytes(data[at + 4 : at + 4 + size]).decode())
            at += 4 + size
    except (struct.error, UnicodeDecodeError) as error:
        raise BadInput(f"input {spec.name!r}: its elements are not text with a length before each") from error
    if len(values) != int(np.prod(shape, dtype=object)):
        raise BadInput(f"input {spec.name!r} has {len(values)} elements, its shape {list(shape)} wants another number")
    return np.array(values, dtype=object).reshape(shape)


def _raw(array: NDArray[Any], dtype: str) -> bytes:
    if dtype != TEXT:
        return np.ascontiguousarray(array, dtype=raw(dtype)).tobytes()
    parts = [str(value).encode() for value in array.reshape(-1)]
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def _wanted(rows: object, signature: Signature) -> tuple[tuple[str, ...], frozenset[str]]:
    if rows is None:
        return (), frozenset()
    if not isinstance(rows, list):
        raise BadInput("'outputs' must be a list")
    known = [spec.name for spec in signature.outputs]
    names: list[str] = []
    binary: set[str] = set()
    for row in rows:
        if not isinstance(row, dict) or row.get("name") not in known:
            raise BadInput(f"unexpected output; the model gives {', '.join(known)}")
        names.append(row["name"])
        if _parameter(row, "binary_data") is True:
            binary.add(row["name"])
    return tuple(dict.fromkeys(names)), frozenset(binary)
