"""What a served request costs over the bare engine: processor time of the inference process, request by request.

``python -m tests.bench serving --json``.  The same model, a small CNN on 3 × 32 × 32 images, is called N times directly and
N times over HTTP (one client, then eight), as v1 JSON, v2 JSON and v2 binary; processor time is the kernel's own count of
the whole sandboxed process, so what the client does costs nothing here.  Wall times are printed beside.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from client_node.inference.engine import Engine
from client_node.services.deploy import ModelServing
from client_node.serving.signature import ServedVersion, signature
from common.sandbox import SandboxMode, available
from common.sandbox.limits import process_tree
from coordinator.compression.packing import pack_weights
from coordinator.registry.graph import part
from tests.integration.served_models import HandingLink, Registry, joined_node

SHAPE = (3, 32, 32)
CLASSES = 43
LENGTH = "Inference-Header-Content-Length"


def cnn(seed: int = 0) -> bytes:
    """Return a CNN of 0.38 M weights for 43 classes."""
    rng = np.random.default_rng(seed)
    sizes = {
        "c1": (32, 3, 3, 3),
        "c2": (64, 32, 3, 3),
        "c3": (128, 64, 3, 3),
        "w": (128 * 16, 128),
        "v": (128, CLASSES),
    }
    weights = {name: (rng.normal(size=size) * 0.05).astype(np.float32) for name, size in sizes.items()}
    nodes = []
    last = "x"
    for name in ("c1", "c2", "c3"):
        nodes.append(helper.make_node("Conv", [last, name], [f"{name}_"], strides=[2, 2], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"{name}_"], [f"{name}r"]))
        last = f"{name}r"
    nodes += [
        helper.make_node("Flatten", [last], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["hr"]),
        helper.make_node("MatMul", ["hr", "v"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def bare_engine(model: bytes, image: np.ndarray, calls: int) -> float:
    """Return processor milliseconds of one call of the engine alone, the least of five runs."""
    parted = part(model)
    ports = [[port.__dict__ for port in ports] for ports in (parted.inputs, parted.outputs)]
    served = ServedVersion("bench", "cnn", 1, "", signature(*ports))
    engine = Engine(served, parted.graph, pack_weights(parted.weights, "fp32", parted.axes).data, 1)
    figures = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(calls):
            engine._session.run(["y"], {"x": image}, None)
        figures.append((time.process_time() - start) * 1000 / calls)
    return min(figures)


def cpu_ms(pid: int) -> float:
    """Return the milliseconds that a process and its children have run, by the scheduler's own nanoseconds."""
    total = 0
    for member in process_tree(pid):
        for task in Path(f"/proc/{member}/task").glob("*/schedstat"):
            total += int(task.read_text().split()[0])
    return total / 1e6


def requests(image: np.ndarray) -> dict[str, tuple[str, bytes, dict[str, str]]]:
    """Return path, body and headers of each protocol's request."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, *SHAPE]}
    head = json.dumps({
        "inputs": [tensor | {"parameters": {"binary_data_size": image.nbytes}}],
        "parameters": {"binary_data_output": True},
    }).encode()  # fmt: skip
    flat = [round(float(v), 6) for v in image.reshape(-1)]
    nested = np.array(flat).reshape(image.shape).tolist()
    return {
        "v1_json": ("/v1/models/cnn:predict", json.dumps({"instances": nested}).encode(), {}),
        "v2_json": ("/v2/models/cnn/infer", json.dumps({"inputs": [tensor | {"data": flat}]}).encode(), {}),
        "v2_binary": ("/v2/models/cnn/infer", head + image.tobytes(), {LENGTH: str(len(head))}),
    }


def drive(url: str, request: tuple[str, bytes, dict[str, str]], count: int, times: list[float]) -> None:
    """Send ``count`` requests over one connection and note each one's seconds."""
    path, body, headers = request
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    for _ in range(count):
        start = time.perf_counter()
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        times.append(time.perf_counter() - start)
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}")
    connection.close()


def measure(
    serving: ModelServing, request: tuple[str, bytes, dict[str, str]], count: int, clients: int
) -> dict[str, float]:
    """Return processor milliseconds per request of the server, and what the clients saw."""
    drive(serving.url, request, 50, [])
    times: list[float] = []
    threads = [
        threading.Thread(target=drive, args=(serving.url, request, count // clients, times)) for _ in range(clients)
    ]
    before, start = cpu_ms(serving.pid), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall, used = time.perf_counter() - start, cpu_ms(serving.pid) - before
    ordered = sorted(times)
    return {
        "cpu_ms": round(used / len(times), 4),
        "p50_ms": round(statistics.median(ordered) * 1000, 3),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 3),
        "requests_per_s": round(len(times) / wall, 1),
    }


async def run(count: int) -> dict[str, object]:
    """Serve the model in its sandboxed process and measure."""
    model = cnn()
    image = np.random.default_rng(1).random((1, *SHAPE), dtype=np.float32)
    mode = SandboxMode.BWRAP if available()[0] else SandboxMode.NONE
    with tempfile.TemporaryDirectory(prefix="hansa-bench-") as folder:
        registry = Registry()
        serving = ModelServing(joined_node(Path(folder), registry, "bench"), mode)
        await serving.start()
        try:
            order = registry.version(model, 1, tenant="bench", name="cnn")
            await serving.handle_deploy(order, HandingLink(registry))
            engine = await asyncio.to_thread(bare_engine, model, image, 300)
            figures = {
                f"{name}_{clients}": await asyncio.to_thread(measure, serving, request, count, clients)
                for name, request in requests(image).items()
                for clients in (1, 8)
            }
        finally:
            await serving.close()
    over = {name: round(figure["cpu_ms"] - engine, 4) for name, figure in figures.items()}
    return {
        "cpu_ms_over_engine": over["v1_json_1"],
        "engine_cpu_ms": round(engine, 4),
        "over_engine": over,
        "requests": count,
        "sandbox": str(mode),
        "served": figures,
    }


def main(argv: list[str]) -> int:
    """Run and print; the last line is JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench serving")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--requests", type=int, default=2000, help="of each kind")
    options = parser.parse_args(argv)
    result = asyncio.run(run(options.requests))
    if not options.json:
        print(f"engine alone: {result['engine_cpu_ms']} CPU ms a call; sandbox {result['sandbox']}")
        for name, figure in result["served"].items():  # type: ignore[attr-defined]
            print(f"{name:14} {figure}")
    print(json.dumps(result))
    return 0
