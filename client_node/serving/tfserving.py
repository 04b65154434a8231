"""TensorFlow Serving's REST API, version 1.

Source: tensorflow/serving, g3doc/api_rest.md.  Row format (``instances`` → ``predictions``) and columnar format
(``inputs`` → ``outputs``), never both; one named tensor may go unnamed.  Binary strings are ``{"b64": …}``.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from client_node.serving import text
from client_node.serving.signature import TEXT, Arrays, ServedVersion, Signature, TensorSpec, check, from_json
from common.errors import BadInput

SIGNATURE_NAME = "serving_default"
_TF_DTYPES = {
    "F64": "DT_DOUBLE", "F32": "DT_FLOAT", "F16": "DT_HALF", "BF16": "DT_BFLOAT16", "I64": "DT_INT64",
    "I32": "DT_INT32", "I16": "DT_INT16", "I8": "DT_INT8", "U8": "DT_UINT8", "U16": "DT_UINT16", "U32": "DT_UINT32",
    "U64": "DT_UINT64", "BOOL": "DT_BOOL", TEXT: "DT_STRING",
}  # fmt: skip


def parse_predict(body: bytes, signature: Signature, max_rows: int) -> tuple[Arrays, bool]:
    """Return the inputs of a predict request, and whether it came in row format.

    Raises:
        BadInput: malformed, or not what the model takes.
    """
    request = text.read_object(body)
    name = request.get("signature_name", SIGNATURE_NAME)
    if name not in (SIGNATURE_NAME, ""):  # a tuple: what came may not be hashable
        raise BadInput(f'Serving signature name: "{str(name)[:80]}" not found in signature def')
    if ("instances" in request) == ("inputs" in request):
        raise BadInput("Not formatted correctly: expecting exactly one of 'instances' and 'inputs'")
    row = "instances" in request
    arrays = _rows(request["instances"], signature) if row else _columns(request["inputs"], signature)
    check(arrays, signature, max_rows)
    return arrays, row


def answer_predict(outputs: Arrays, *, row: bool) -> bytes:
    """Return the answer to a predict request, in the format of the request.

    Raises:
        BadInput: row format, and the outputs have no common first dimension.
    """
    key = "predictions" if row else "outputs"
    write = text.write if all(text.finite(a) for a in outputs.values()) else text.write_bare
    values = {name: _wrapped(name, text.plain(array)) for name, array in outputs.items()}
    if len(values) == 1:
        return write({key: next(iter(values.values()))})
    if not row:
        return write({key: values})
    counts = {array.shape[0] if array.ndim else None for array in outputs.values()}
    if len(counts) != 1 or None in counts:
        raise BadInput("the outputs have no common first dimension: ask in columnar format ('inputs')")
    lists = {name: array.tolist() for name, array in outputs.items()}
    rows = zip(*(_wrapped(name, values) for name, values in lists.items()), strict=True)
    return write({key: [dict(zip(lists, values, strict=True)) for values in rows]})


def status(versions: list[ServedVersion]) -> bytes:
    """Return the answer to a model status request."""
    ok = {"error_code": "OK", "error_message": ""}
    rows = [{"version": str(v.version), "state": "AVAILABLE", "status": ok} for v in versions]
    return text.write({"model_version_status": rows})


def metadata(served: ServedVersion, name: str) -> bytes:
    """Return the answer to a metadata request."""
    definition = {
        "inputs": {spec.name: _tensor_info(spec) for spec in served.signature.inputs},
        "outputs": {spec.name: _tensor_info(spec) for spec in served.signature.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return text.write(
        {
            "model_spec": {"name": name, "signature_name": "", "version": str(served.version)},
            "metadata": {"signature_def": {"signature_def": {SIGNATURE_NAME: definition}}},
        }
    )


def error(message: str) -> bytes:
    """Return an error's body."""
    return text.write({"error": message})


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    dims = [{"size": "-1" if d is None else str(d), "name": ""} for d in spec.shape]
    return {"dtype": _TF_DTYPES[spec.dtype], "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": spec.name}


def _rows(instances: object, signature: Signature) -> Arrays:
    if not isinstance(instances, list) or not instances:
        raise BadInput("'instances' must be a list with at least one element")
    if not _named(instances[0], signature):
        return {_only(signature).name: _array(instances, _only(signature))}
    columns: dict[str, list[object]] = {}
    for number, instance in enumerate(instances):
        if not isinstance(instance, dict) or instance.keys() != signature.by_name.keys():
            raise BadInput(f"instance {number} must name exactly the inputs {', '.join(signature.by_name)}")
        for name, value in instance.items():
            columns.setdefault(name, []).append(value)
    return {name: _array(values, signature.spec(name)) for name, values in columns.items()}


def _columns(inputs: object, signature: Signature) -> Arrays:
    if not _named(inputs, signature):
        return {_only(signature).name: _array(inputs, _only(signature))}
    assert isinstance(inputs, dict)  # noqa: S101 - _named has looked; this is for the type checker
    return {name: _array(value, signature.spec(name)) for name, value in inputs.items()}


def _named(value: object, signature: Signature) -> bool:
    """Say whether ``value`` names its tensors; ``{"b64": …}`` is a value unless an input has that very name."""
    return isinstance(value, dict) and (value.keys() != {"b64"} or "b64" in signature.by_name)


def _only(signature: Signature) -> TensorSpec:
    if len(signature.inputs) != 1:
        raise BadInput(f"name the inputs: the model takes {', '.join(signature.by_name)}")
    return signature.inputs[0]


def _array(value: object, spec: TensorSpec) -> Any:  # noqa: ANN401 - an array of whatever dtype the model takes
    return from_json(_unwrapped(value) if spec.dtype == TEXT else value, spec)


def _unwrapped(value: object) -> object:
    if isinstance(value, list):
        return [_unwrapped(v) for v in value]
    if isinstance(value, dict) and value.keys() == {"b64"}:
        try:
            return base64.b64decode(str(value["b64"]), validate=True).decode()
        except (binascii.Error, ValueError) as error_:
            raise BadInput("a b64 value is not base64 of UTF-8 text") from error_
    return value


def _wrapped(name: str, value: Any) -> Any:  # noqa: ANN401 - nested lists of whatever the model gives
    """Return text of an output called ``…_bytes`` as ``{"b64": …}``, anything else as it is."""
    if not name.endswith("_bytes"):
        return value
    if isinstance(value, list):
        return [_wrapped(name, v) for v in value]
    if isinstance(value, (str, bytes)):
        return {"b64": base64.b64encode(value.encode() if isinstance(value, str) else value).decode("ascii")}
    return value
