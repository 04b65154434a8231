"""One served version: its graph and weights in ONNX Runtime.

A fast model runs on the event loop itself: a hop to another thread and back costs more than its work.  A slow one, a
large batch, or a graph with loops in it runs in a thread, under a time limit that the engine keeps
(``RunOptions.terminate``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from client_node.serving.signature import TEXT, Arrays, ServedVersion, TensorSpec
from common.errors import BadInput, BadManifest, QuotaExceeded
from common.tensors.dtypes import NUMPY
from common.tensors.packed import unpack

INLINE_S = 0.002  # longest run that may hold up the event loop
_CONTROL = (b"Loop", b"Scan", b"If")  # operators whose work the input decides
_QUIET = 3  # errors only


class Engine:
    """Runs one version.  Made in a thread: loading and warming up take seconds for large models."""

    def __init__(self, served: ServedVersion, graph: bytes, packed: bytes, threads: int) -> None:
        """Load and warm up.

        Raises:
            BadManifest: graph and weights do not make a model.
        """
        self.served = served
        weights = unpack(packed)
        options = ort.SessionOptions()
        options.log_severity_level = _QUIET
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The session keeps views of these arrays for as long as it lives.
        self._values = [
            ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(w).reshape(w.shape)) for w in weights.values()
        ]
        if weights:
            options.add_external_initializers(list(weights), self._values)
        try:
            self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no root of their own
            raise BadManifest(f"the engine refuses the graph: {_first_line(error)}") from error
        self._check_names()
        self._outputs = [spec.name for spec in served.signature.outputs]
        self._steady = not any(word in graph for word in _CONTROL)
        self.warm_s = self._warm_up()

    async def run(self, inputs: Arrays, wanted: Sequence[str], pool: Executor, limit_s: float) -> Arrays:
        """Return the outputs (``wanted`` of them, () = all) for checked ``inputs``.

        Raises:
            BadInput: the engine refuses these inputs.
            QuotaExceeded: the time limit passed.
        """
        names = list(wanted) or self._outputs
        if self._steady and self.warm_s * _rows(inputs) <= INLINE_S:
            return self._named(names, self._run(names, inputs, None))
        options = ort.RunOptions()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(limit_s, setattr, options, "terminate", True)
        try:
            values = await loop.run_in_executor(pool, self._run, names, inputs, options)
        except BadInput as error:
            if options.terminate:
                raise QuotaExceeded(f"the model took longer than {limit_s:g} s") from error
            raise
        finally:
            timer.cancel()
        return self._named(names, values)

    def _run(self, names: list[str], inputs: Arrays, options: Any) -> list[NDArray[Any]]:  # noqa: ANN401 - untyped
        try:
            values: list[NDArray[Any]] = self._session.run(names, inputs, options)
        except Exception as error:  # as above; always raised on, as ours
            raise BadInput(f"the model refuses the input: {_first_line(error)}") from error
        return values

    def _named(self, names: list[str], values: list[NDArray[Any]]) -> Arrays:
        return dict(zip(names, values, strict=True))

    def _check_names(self) -> None:
        for kind, specs, values in (
            ("inputs", self.served.signature.inputs, self._session.get_inputs()),
            ("outputs", self.served.signature.outputs, self._session.get_outputs()),
        ):
            said, real = {s.name for s in specs}, {v.name for v in values}
            if said != real:
                raise BadManifest(f"the manifest's {kind} {sorted(said)} are not the graph's {sorted(real)}")

    def _warm_up(self) -> float:
        """Return the seconds of one warm run of a single row; a model that refuses blanks is timed as slow."""
        blank = {spec.name: _blank(spec) for spec in self.served.signature.inputs}
        try:
            self._run(self._outputs, blank, None)
            start = time.perf_counter()
            self._run(self._outputs, blank, None)
        except BadInput:
            return float("inf")
        return time.perf_counter() - start


def _contiguous(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array).reshape(array.shape)  # numpy makes scalars one-dimensional on the way


def _blank(spec: TensorSpec) -> NDArray[Any]:
    shape = tuple(1 if d is None else d for d in spec.shape)
    if spec.dtype == TEXT:
        return np.full(shape, "", dtype=object)
    return np.zeros(shape, dtype=NUMPY[spec.dtype])


def _rows(inputs: Arrays) -> int:
    return max((a.shape[0] if a.ndim else 1 for a in inputs.values()), default=1)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
