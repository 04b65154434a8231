"""The real inference process, in its sandbox, under clients in processes of their own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace

import httpx
import pytest

from client_node.services.deploy import ModelServing
from common import manifest as manifests
from common.crypto.keys import new_ed25519
from common.wire import hansa_node_pb2 as pb
from tests.integration.served_models import (
    MODE,
    ZEROS,
    Registry,
    ask,
    constant_linear,
    joined_node,
    linear_onnx,
    value,
)

pytestmark = pytest.mark.integration

CLIENT = """
import http.client, json, sys, time
host, until = sys.argv[1], sys.argv[2]
body = json.dumps({"instances": [[0] * 8]})
seen, count = [], 0
import os
connection = http.client.HTTPConnection(host)
while not os.path.exists(until):
    connection.request("POST", "/v1/models/risk:predict", body)
    answer = connection.getresponse()
    data = json.loads(answer.read())
    if answer.status != 200:
        print(json.dumps({"failed": data})); sys.exit(1)
    value = data["predictions"][0]
    if len(set(value)) != 1:
        print(json.dumps({"mixed": value})); sys.exit(1)
    if not seen or seen[-1] != value[0]:
        seen.append(value[0])
    count += 1
print(json.dumps({"seen": seen, "count": count}))
"""


async def test_no_request_fails_while_versions_are_swapped_under_concurrent_clients(serving, link, registry, tmp_path):
    await serving.handle_deploy(registry.version(constant_linear(1), 1), link)
    done = tmp_path / "done"
    host = serving.url.removeprefix("http://")
    clients = [
        subprocess.Popen([sys.executable, "-c", CLIENT, host, str(done)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    try:
        for version in range(2, 8):
            await asyncio.sleep(0.15)
            await serving.handle_deploy(registry.version(constant_linear(version), version), link)
            assert await value(serving) == version
        done.touch()
        for client in clients:
            out, _ = await asyncio.to_thread(client.communicate, None, 60)
            result = json.loads(out)
            assert client.returncode == 0, result
            # Every answer came from exactly one version, and no client was ever sent back to an older one.
            assert result["seen"] == sorted(result["seen"])
            assert result["count"] > 10
            assert len(result["seen"]) > 1
    finally:
        done.touch()
        for client in clients:
            client.kill()
            client.wait()
            client.stdout.close()
    assert link.states(2) == ["FETCHING", "SERVING", "REMOVED"]
    assert len(list((tmp_path / "node/models/alpha/risk").glob("*-*"))) == 2  # this version and the one before


async def test_a_version_that_does_not_load_fails_and_the_old_one_goes_on(serving, link, registry):
    await serving.handle_deploy(registry.version(constant_linear(1), 1), link)
    order = registry.version(constant_linear(2), 2)
    broken = registry.version(linear_onnx([[1.0] * 40], [0.0] * 40), 3)
    put_in_weights_of(registry, broken, order)
    await serving.handle_deploy(broken, link)
    assert link.states(3) == ["FETCHING", "FAILED"]
    assert "version 1 is still served" in link.sent[-1].message
    assert await value(serving) == 1
    await serving.handle_deploy(order, link)
    assert await value(serving) == 2


def put_in_weights_of(registry: Registry, broken: pb.Deploy, other: pb.Deploy) -> None:
    """Sign ``broken`` anew with the packed tensors of ``other``: a valid signature, weights that do not fit the graph."""
    opened = [manifests.read_unverified(registry.blobs[o.manifest.digest]) for o in (broken, other)]
    mixed = replace(opened[0], blobs=opened[0].blobs | {"packed": opened[1].blobs["packed"]})
    ref = registry.put(manifests.sign(mixed, registry.key))
    broken.manifest.digest, broken.manifest.size = ref.digest, ref.size


async def test_what_nobody_trusted_signed_is_not_served(serving, link, registry):
    forged = registry.version(constant_linear(1), 1, key=new_ed25519())
    await serving.handle_deploy(forged, link)
    assert link.states(1) == ["FETCHING", "FAILED"]
    assert (await ask(serving)).status_code == 404


async def test_a_manifest_of_another_version_cannot_be_passed_off(serving, link, registry):
    order = registry.version(constant_linear(1), 1)
    order.version = 2
    await serving.handle_deploy(order, link)
    assert link.states(2)[-1] == "FAILED"
    order = registry.version(constant_linear(1), 1, name="other")
    order.model = "alpha/risk"
    await serving.handle_deploy(order, link)
    assert link.states(1)[-1] == "FAILED"


async def test_a_node_serves_no_model_of_a_tenant_it_has_nothing_to_do_with(serving, link, registry):
    await serving.handle_deploy(registry.version(constant_linear(1), 1, tenant="beta"), link)
    assert link.states(1) == ["FETCHING", "FAILED"]
    assert len(link.downloads) == 1  # the manifest; its blobs were never asked for


@pytest.mark.parametrize("model", ["", "alpha", "alpha/../../x", "../alpha/risk", "alpha/risk/x", "Alpha/risk"])
async def test_a_name_that_could_leave_the_folder_is_refused(serving, link, registry, model):
    order = registry.version(constant_linear(1), 1)
    order.model = model
    await serving.handle_deploy(order, link)
    assert [s.state for s in link.sent] == [pb.DeployStatus.FAILED]
    assert link.downloads == []


async def test_an_undeployed_model_is_gone_from_the_server_and_the_disk(serving, link, registry, tmp_path):
    await serving.handle_deploy(registry.version(constant_linear(1), 1), link)
    await serving.handle_undeploy(pb.Undeploy(model="alpha/risk", version=1), link)
    assert (await ask(serving)).status_code == 404
    assert not (tmp_path / "node/models/alpha/risk").exists()
    assert link.states(1)[-1] == "REMOVED"
    assert serving.statuses() == []


async def test_the_same_order_twice_changes_nothing(serving, link, registry):
    order = registry.version(constant_linear(1), 1)
    await serving.handle_deploy(order, link)
    fetched = list(link.downloads)
    await serving.handle_deploy(order, link)
    assert link.downloads == fetched
    assert link.states(1) == ["FETCHING", "SERVING", "SERVING"]


async def test_a_server_for_other_machines_asks_for_a_token(tmp_path, registry, link):
    node = joined_node(tmp_path / "node", registry)
    serving = ModelServing(node, MODE, host="0.0.0.0")
    await serving.start()
    try:
        await serving.handle_deploy(registry.version(constant_linear(1), 1), link)
        path = node / "serving.token"
        assert path.stat().st_mode & 0o077 == 0
        url = serving.url.replace("0.0.0.0", "127.0.0.1")
        async with httpx.AsyncClient(base_url=url) as client:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {path.read_text()}"}):
                answer = await client.post("/v1/models/risk:predict", json=ZEROS, headers=headers)
                assert answer.status_code == 401
            right = {"Authorization": f"Bearer {path.read_text()}"}
            assert (await client.post("/v1/models/risk:predict", json=ZEROS, headers=right)).status_code == 200
            assert (await client.get("/v2/health/ready")).status_code == 200  # a probe bears no token
            assert (await client.get("/v2/models/risk")).status_code == 401
    finally:
        await serving.close()
