"""What a client, a graph or a manifest can throw at the inference process; afterwards it answers as before."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import onnx
import pytest
import pytest_asyncio
from onnx import TensorProto, helper, numpy_helper

from client_node.services.deploy import ModelServing
from common import manifest as manifests
from common.sandbox import SandboxMode, available
from common.sandbox.limits import process_tree
from tests.integration.served_models import HandingLink, Registry, constant_linear, joined_node, linear_onnx

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]
MODE = SandboxMode.BWRAP if available()[0] else SandboxMode.NONE
GOOD = {"instances": [[0] * 8]}
LIMITS = {"body_bytes": 100_000, "rows": 16, "requests": 4, "run_s": 0.5}


def endless(steps_input: str = "n") -> bytes:
    """Return a model that counts to whatever its input says."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["cond"], ["cond_out"]), helper.make_node("Add", ["v", "one"], ["v_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("cond", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("cond_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", TensorProto.FLOAT, []),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", [steps_input, "yes", "zero"], ["y"], body=body)],
        "endless",
        [helper.make_tensor_value_info(steps_input, TensorProto.INT64, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        [
            numpy_helper.from_array(np.array(True), "yes"),
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
            numpy_helper.from_array(np.array(1, np.float32), "one"),
        ],
    )
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory):
    """One process for all that is thrown here."""
    registry = Registry()
    link = HandingLink(registry)
    node = joined_node(tmp_path_factory.mktemp("hostile") / "node", registry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_OF_THE_NODE", "hidden")
        started = ModelServing(node, MODE, server=LIMITS)
        await started.start()
    await started.handle_deploy(registry.version(constant_linear(1), 1), link)
    await started.handle_deploy(registry.version(endless(), 1, name="endless"), link)
    assert link.states(1) == ["FETCHING", "SERVING"] * 2, link.sent
    yield started
    await started.close()


@pytest_asyncio.fixture(loop_scope="module")
async def serving(served: ModelServing):
    """The process, which must answer as before afterwards."""
    pid = served.pid
    yield served
    async with httpx.AsyncClient(base_url=served.url, timeout=30) as client:
        answer = await client.post("/v1/models/risk:predict", json=GOOD)
    assert answer.json() == {"predictions": [[1.0] * 4]}
    assert served.pid == pid  # nothing that came made it die


async def post(serving: ModelServing, body: object, path: str = "/v1/models/risk:predict", **kwargs) -> httpx.Response:
    async with httpx.AsyncClient(base_url=serving.url, timeout=30) as client:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await client.post(path, content=content, **kwargs)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"[]", 400), (b"\xff\xfe", 400), (b"{" * 50_000, 400), (b"[" * 99_000, 400),
        ({"instances": [[0] * 8] * 17}, 400), ({"instances": [[0] * 7]}, 400), ({"instances": [["a"] * 8]}, 400),
        (b'{"instances":[[1e999,0,0,0,0,0,0,0]]}', 200), (b'{"instances":[[NaN,0,0,0,0,0,0,0]]}', 200),
        (b'{"instances":[[' + b"9" * 4000 + b",0,0,0,0,0,0,0]]}", 400),
    ],
)  # fmt: skip
async def test_a_bad_body_is_the_clients_fault(serving, body, status):
    answer = await post(serving, body)
    assert answer.status_code == status, answer.text
    assert status == 200 or list(answer.json()) == ["error"]


async def test_a_body_over_the_limit_is_413_whether_it_is_announced_or_not(serving):
    assert (await post(serving, b" " * 100_001)).status_code == 413

    async def chunks():
        for _ in range(200):
            yield b" " * 1000

    async with httpx.AsyncClient(base_url=serving.url, timeout=30) as client:
        try:
            answer = await client.post("/v1/models/risk:predict", content=chunks())
        except httpx.TransportError:  # the server closed while we were still sending
            return
        assert answer.status_code == 413


@pytest.mark.parametrize("value", ["-1", "x", "9" * 30, "1000000"])
async def test_a_bad_binary_header_is_the_clients_fault(serving, value):
    body = {"inputs": [{"name": "x", "shape": [1, 8], "datatype": "FP32", "data": [0] * 8}]}
    answer = await post(serving, body, "/v2/models/risk/infer", headers={"Inference-Header-Content-Length": value})
    assert answer.status_code == 400


async def test_a_model_that_runs_for_ever_is_stopped_and_others_go_on_meanwhile(serving):
    endless_run = asyncio.create_task(post(serving, {"inputs": 2**62}, "/v1/models/endless:predict"))
    await asyncio.sleep(0.1)
    assert (await post(serving, GOOD)).status_code == 200
    answer = await endless_run
    assert answer.status_code == 503
    assert "longer than 0.5 s" in answer.json()["error"]
    short = await post(serving, {"inputs": 3}, "/v1/models/endless:predict")
    assert short.json() == {"outputs": 3.0}


async def test_too_many_requests_at_once_are_told_to_come_again(serving):
    runs = [asyncio.create_task(post(serving, {"inputs": 2**62}, "/v1/models/endless:predict")) for _ in range(12)]
    answers = await asyncio.gather(*runs)
    assert {a.status_code for a in answers} == {503}
    assert any("at once" in a.json()["error"] for a in answers)
    assert all(a.headers["retry-after"] for a in answers)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/models/risk:predict HTTP/1.1\r\n",
        b"GET /v1/models/risk HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/models/%2e%2e%2f HTTP/1.1\r\nHost: x\r\n\r\n", b"GET " + b"/a" * 60_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/models/risk:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf",
        b"GET /v1/models/risk HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
)  # fmt: skip
async def test_raw_noise_on_the_socket_harms_nobody(serving, data):
    address = urlsplit(serving.url)

    def talk() -> None:
        with socket.create_connection((address.hostname, address.port), timeout=5) as raw:
            raw.settimeout(0.3)
            try:
                raw.sendall(data)
                raw.recv(65536)
            except OSError:
                pass  # whatever it does with us is fine as long as it serves the next one

    await asyncio.to_thread(talk)


async def test_the_process_has_no_network_and_nothing_of_the_node(serving):
    """It listens on a socket it was given; what it could open by itself leads nowhere."""
    if MODE is not SandboxMode.BWRAP:
        pytest.skip("bubblewrap does not work on this host")
    pid = max(process_tree(serving.pid))
    ours = Path("/proc/self/ns/net").readlink()
    assert Path(f"/proc/{pid}/ns/net").readlink() != ours
    mounts = Path(f"/proc/{pid}/mountinfo").read_text()
    assert "/node" not in mounts
    assert b"hidden" not in Path(f"/proc/{pid}/environ").read_bytes()


async def test_a_graph_whose_names_are_not_the_manifests_is_not_served(tmp_path):
    registry = Registry()
    link = HandingLink(registry)
    order = registry.version(linear_onnx(np.ones((8, 8)), np.zeros(8)), 1)
    manifest = manifests.read_unverified(registry.blobs[order.manifest.digest])
    renamed = replace(manifest, inputs=(replace(manifest.inputs[0], name="z"),))
    ref = registry.put(manifests.sign(renamed, registry.key))
    order.manifest.digest, order.manifest.size = ref.digest, ref.size
    serving = ModelServing(joined_node(tmp_path / "node", registry), MODE)
    await serving.start()
    try:
        await serving.handle_deploy(order, link)
        assert link.states(1) == ["FETCHING", "FAILED"]
        assert "are not the graph's" in link.sent[-1].message
    finally:
        await serving.close()
