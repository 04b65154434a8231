"""Makes a servable ONNX graph of trained arrays with the app's own factory, in a child of the job's environment.

The factory is ``module:function``.  It takes ``arrays`` (name to ndarray) or nothing, and returns an
``onnx.ModelProto``, a ``torch.nn.Module`` (given the arrays here where the factory took none) or a fitted scikit-learn
estimator.  Which libraries are there is the environment's affair: they are looked up only after the factory ran.
"""

from __future__ import annotations

import importlib
import inspect
import io
import sys
import warnings
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from common.child.blocks import memfd, write_all
from common.child.loader import load, seed_all
from common.child.parent import Parent, Stop, failure
from common.child.records import decode, seal

FREE_AXIS = "batch"
_EXAMPLE = 2  # size of a free axis while torch traces; 1 could be taken for a constant

Arrays = dict[str, NDArray[Any]]
Inputs = dict[str, list[int | str]]


def run_export(parent: Parent, start: dict[str, Any]) -> None:
    """Answer one ``export`` frame with the graph."""
    wanted = start["export"]
    try:
        seed_all(start["seed"])
        factory = load(start["app_dir"], wanted["factory"])
        parent.tell({"op": "ready"})
        frame, fds = parent.receive()
        if frame["op"] != "export":
            return
        graph = make_graph(factory, _arrays(fds[0], frame["object"]), wanted["inputs"])
        fd = memfd("graph")
        write_all(fd, graph, 0)
        seal(fd)
        parent.tell({"op": "exported", "graph": len(graph)}, [fd])
    except BaseException as error:  # noqa: BLE001 tenant code may raise anything; it becomes a typed failure
        parent.tell(failure(error))


def _arrays(fd: int, size: int) -> Arrays:
    records = [record for record in decode(fd, size).values() if isinstance(record, ArrayRecord)]
    if len(records) != 1:
        raise Stop("bad_reply", f"an export needs one record of arrays, the object has {len(records)}")
    return {key: array.numpy() for key, array in records[0].items()}


def make_graph(factory: Any, arrays: Arrays, inputs: Inputs) -> bytes:
    """Return ONNX bytes with the weights inside.

    Raises:
        Stop: the factory returned what cannot be exported here, and why.
    """
    takes_arrays = "arrays" in inspect.signature(factory).parameters
    model = factory(arrays=arrays) if takes_arrays else factory()
    if _is(model, "onnx", "ModelProto"):
        return bytes(model.SerializeToString())
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        if not takes_arrays:
            _load_state(torch, model, arrays)
        return _from_torch(torch, model, inputs)
    if type(model).__module__.startswith("sklearn."):
        return _from_sklearn(model, inputs)
    raise Stop("bad_reply", f"the export factory returned a {type(model).__name__}, which has no way to ONNX")


def _is(model: Any, module: str, name: str) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(model, getattr(loaded, name))


def _load_state(torch: Any, model: Any, arrays: Arrays) -> None:
    names = list(model.state_dict())
    if set(arrays) != set(names) and len(arrays) == len(names):
        # Apps that send a plain list of arrays in the order of the state have keys "0", "1", ...
        arrays = dict(zip(names, arrays.values(), strict=True))
    model.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()})


def _from_torch(torch: Any, model: Any, inputs: Inputs) -> bytes:
    model.eval()
    sizes = [[_EXAMPLE if size == FREE_AXIS else size for size in shape] for shape in inputs.values()]
    examples = tuple(torch.zeros(size) for size in sizes)
    axes = {name: {i: FREE_AXIS for i, size in enumerate(shape) if size == FREE_AXIS} for name, shape in inputs.items()}
    with torch.no_grad():
        answer = model(*examples)
    outputs = [f"output_{i}" for i in range(len(answer))] if isinstance(answer, (tuple, list)) else ["output"]
    if any(axes.values()):
        axes |= {name: {0: FREE_AXIS} for name in outputs}
    graph = io.BytesIO()
    with warnings.catch_warnings():
        # The tracing exporter calls itself old each time; the new one needs onnxscript.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            examples,
            graph,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes=axes,
            dynamo=False,
        )
    return graph.getvalue()


def _from_sklearn(model: Any, inputs: Inputs) -> bytes:
    try:
        skl2onnx = importlib.import_module("skl2onnx")
        types = importlib.import_module("skl2onnx.common.data_types")
    except ImportError as error:
        raise Stop(
            "missing_imports",
            "exporting a scikit-learn estimator needs skl2onnx in the job's environment; "
            "or let the factory return an onnx.ModelProto",
        ) from error
    initial = [
        (name, types.FloatTensorType([None if size == FREE_AXIS else size for size in shape]))
        for name, shape in inputs.items()
    ]
    base = importlib.import_module("sklearn.base")
    # Probabilities as one tensor, not as a list of maps, which no runtime serves; a regressor has no such option.
    options = {"zipmap": False} if base.is_classifier(model) else None
    return bytes(skl2onnx.convert_sklearn(model, initial_types=initial, options=options).SerializeToString())
