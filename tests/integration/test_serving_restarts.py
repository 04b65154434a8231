"""The inference process and the agent come back with what they served."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from client_node.services.deploy import ModelServing
from common.sandbox.limits import process_tree
from common.wire import hansa_node_pb2 as pb
from tests.integration.served_models import MODE, ask, constant_linear, joined_node, value

pytestmark = pytest.mark.integration


async def until_up(serving: ModelServing, old_pid: int) -> None:
    for _ in range(600):
        if serving.pid not in {0, old_pid} and any(s.state == pb.DeployStatus.SERVING for s in serving.statuses()):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the process did not come back")


def kill_inference(serving: ModelServing) -> int:
    """Kill the innermost process of the sandbox, as the out-of-memory killer would."""
    pid = serving.pid
    os.kill(max(process_tree(pid)), signal.SIGKILL)
    return pid


async def test_a_killed_process_comes_back_with_everything_it_served(serving, link, registry):
    await serving.handle_deploy(registry.version(constant_linear(1), 1), link)
    await serving.handle_deploy(registry.version(constant_linear(9), 4, name="other"), link)
    url = serving.url
    old = kill_inference(serving)
    await until_up(serving, old)
    assert serving.url == url
    assert await value(serving) == 1
    answer = await ask(serving, "/v1/models/other:predict")
    assert answer.json() == {"predictions": [[9.0] * 4]}


async def test_a_request_that_comes_while_the_process_is_down_waits_in_the_queue(serving, link, registry):
    await serving.handle_deploy(registry.version(constant_linear(1), 1), link)
    old = kill_inference(serving)
    assert await value(serving) == 1
    assert serving.pid != old


async def test_a_restarted_agent_serves_what_it_served_without_its_coordinator(tmp_path, registry, link):
    node = joined_node(tmp_path / "node", registry)
    first = ModelServing(node, MODE)
    await first.start()
    await first.handle_deploy(registry.version(constant_linear(3), 1, how="int8"), link)
    url = first.url
    await first.close()
    second = ModelServing(node, MODE)
    await second.start()
    try:
        assert second.url == url
        assert await value(second) == 3
        assert [(s.version, s.state) for s in second.statuses()] == [(1, pb.DeployStatus.SERVING)]
    finally:
        await second.close()


async def test_a_version_that_was_tampered_with_on_disk_is_not_served_again(tmp_path, registry, link):
    node = joined_node(tmp_path / "node", registry)
    first = ModelServing(node, MODE)
    await first.start()
    order = registry.version(constant_linear(3), 1)
    await first.handle_deploy(order, link)
    await first.close()
    (packed,) = (node / "models/alpha/risk").glob("*/packed.safetensors")
    data = bytearray(packed.read_bytes())
    data[-1] ^= 1
    packed.write_bytes(data)
    second = ModelServing(node, MODE)
    await second.start()
    try:
        assert [(s.version, s.state) for s in second.statuses()] == [(1, pb.DeployStatus.FAILED)]
        assert (await ask(second)).status_code == 404
        await second.handle_deploy(order, link)  # the coordinator asks again, and it is fetched anew
        assert await value(second) == 3
    finally:
        await second.close()


CRASH = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from client_node.services.deploy import ModelServing
from common.sandbox import SandboxMode
from common.wire import hansa_node_pb2 as pb
from tests.integration.served_models import MODE, ZEROS, ask, value, HandingLink, Registry
async def main():
    node, orders, blobs = Path(sys.argv[1]), sys.argv[2].split(","), Path(sys.argv[3])
    registry = Registry(blobs={{path.name: path.read_bytes() for path in blobs.iterdir()}})
    serving = ModelServing(node, SandboxMode(sys.argv[4]))
    await serving.start()
    for order in orders:
        await serving.handle_deploy(pb.Deploy.FromString(bytes.fromhex(order)), HandingLink(registry))
asyncio.run(main())
"""


async def test_an_agent_killed_between_install_and_swap_serves_the_old_version_and_then_the_new(
    tmp_path, registry, link
):
    node = joined_node(tmp_path / "node", registry)
    orders = [registry.version(constant_linear(n), n) for n in (1, 2)]
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for digest, data in registry.blobs.items():
        (blobs / digest).write_bytes(data)
    texts = ",".join(order.SerializeToString().hex() for order in orders)
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", CRASH.format(root=root), str(node), texts, str(blobs), MODE.value],
        env=os.environ | {"HANSA_FAILPOINT": "model_installed_before_swap:2"},
        start_new_session=True,
    )
    assert await asyncio.to_thread(process.wait, 60) == -signal.SIGKILL
    serving = ModelServing(node, MODE)
    await serving.start()
    try:
        assert await value(serving) == 1
        await serving.handle_deploy(orders[1], link)  # the coordinator asks again when the node is back
        assert await value(serving) == 2
        assert link.downloads == []  # it was installed before the crash
    finally:
        await serving.close()
