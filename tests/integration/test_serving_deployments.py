"""From a version to answers at a node: who is told, who may fetch what, what is recorded."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest

from client_node.services.deploy import ModelServing
from common.errors import BadInput, NotFound
from common.ids import Digest, NodeId
from common.wire import hansa_node_pb2 as pb
from coordinator.domain.models import Alias
from tests.integration.publishing import (
    ALPHA,
    CLINIC,
    HOSPITAL,
    MODE,
    STRANGER,
    CoordinatorLink,
    World,
)
from tests.integration.served_models import Registry, joined_node

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(tmp_path: Path):
    made = World(tmp_path)
    await made.settle()
    yield made
    await made.store.close()


async def test_a_published_version_goes_to_the_roster_and_is_told_again_on_connection(world):
    job = await world.job()
    version = await world.publish(job)
    made = await world.deployments.after_publish(job, version)
    assert [(d.node, d.state, d.wanted) for d in made] == [(HOSPITAL, "pending", True), (CLINIC, "pending", True)]
    await world.deployments.node_connected(CLINIC)
    events = [event.deploy for node, event in world.wires.sent if node == CLINIC]
    assert len(events) == 2
    assert events[0] == events[1]
    assert (events[0].model, events[0].version, events[0].alias) == ("alpha/risk", 1, "latest")
    assert events[0].manifest.digest == version.manifest


async def move(world, name: str, version: int, generation: int) -> None:
    alias = Alias(ALPHA, "risk", name, version, generation, "ann", 2_000_000_000.0 + version)
    assert await world.store.write(lambda tx: tx.models.move_alias(alias, expected_generation=generation - 1))
    await world.deployments.alias_moved(ALPHA, "risk")


async def test_an_alias_that_moves_reaches_the_nodes_of_both_versions(world):
    job = await world.job()
    await world.publish(job, 1)
    await world.publish(job, 2)
    await world.deployments.deploy(ALPHA, "risk", 1, [CLINIC])
    await world.deployments.deploy(ALPHA, "risk", 2, [HOSPITAL])
    for version, names in ((1, {CLINIC: "champion", HOSPITAL: "latest"}), (2, {CLINIC: "", HOSPITAL: "champion"})):
        world.wires.sent.clear()
        await move(world, "champion", version, version)
        told = {node: (event.deploy.version, event.deploy.alias) for node, event in world.wires.sent}
        assert told == {CLINIC: (1, names[CLINIC]), HOSPITAL: (2, names[HOSPITAL])}
    world.wires.sent.clear()
    await world.deployments.node_connected(HOSPITAL)
    ((_, event),) = world.wires.sent
    assert event.deploy.alias == "champion"


async def test_a_version_without_a_graph_is_not_deployed(world):
    job = await world.job(factory="")
    version = await world.publish(job)
    assert await world.deployments.after_publish(job, version) == []
    with pytest.raises(BadInput):
        await world.deployments.deploy(ALPHA, "risk", 1, [HOSPITAL])
    with pytest.raises(NotFound):
        await world.deployments.deploy(ALPHA, "risk", 2)


async def test_a_node_outside_the_federation_is_not_found(world):
    await world.publish(await world.job())
    for node in (STRANGER, NodeId("node_nobody")):
        with pytest.raises(NotFound):
            await world.deployments.deploy(ALPHA, "risk", 1, [HOSPITAL, node])
    assert await world.store.read(lambda tx: tx.models.deployments(tenant=ALPHA)) == []


async def test_a_node_may_fetch_what_it_should_serve_and_nothing_else(world):
    job = await world.job()
    first, second = await world.publish(job, 1, 1.0), await world.publish(job, 2, 2.0)
    await world.deployments.deploy(ALPHA, "risk", 1, [CLINIC])
    manifest = await world.manifest(first)

    async def may(digest: str, node: NodeId = CLINIC, model: str = "alpha/risk") -> bool:
        return await world.deployments.may_download(node, model, Digest(digest)) is not None

    assert await may(first.manifest)
    assert await may(manifest.blobs["graph"].digest)
    assert await may(manifest.blobs["packed"].digest)
    assert not await may(manifest.blobs["weights"].digest)  # the master weights stay at the coordinator
    assert not await may(second.manifest)
    assert not await may(first.manifest, HOSPITAL)
    assert not await may(first.manifest, CLINIC, "beta/risk")
    await world.deployments.deploy(ALPHA, "risk", 2, [CLINIC])
    assert await may(second.manifest)
    assert not await may(first.manifest)


async def test_statuses_are_recorded_and_unwanted_models_are_ended(world):
    await world.publish(await world.job())
    await world.deployments.deploy(ALPHA, "risk", 1, [HOSPITAL])
    status = pb.DeployStatus(model="alpha/risk", version=1, state=pb.DeployStatus.SERVING, url="http://127.0.0.1:1/x")
    await world.deployments.deploy_status(HOSPITAL, status)
    (row,) = await world.store.read(lambda tx: tx.models.deployments(node=HOSPITAL))
    assert (row.state, row.url) == ("serving", "http://127.0.0.1:1/x")
    await world.deployments.deploy_status(CLINIC, status)  # never asked to
    assert await world.store.read(lambda tx: tx.models.deployments(node=CLINIC)) == []
    node, event = world.wires.sent[-1]
    assert (node, event.undeploy.model) == (CLINIC, "alpha/risk")
    await world.deployments.undeploy(ALPHA, "risk")
    assert world.wires.sent[-1] == (HOSPITAL, pb.CoordinatorEvent(undeploy=pb.Undeploy(model="alpha/risk", version=1)))


async def test_a_trained_model_answers_at_its_node(world, tmp_path):
    job = await world.job(weights="int8")
    version = await world.publish(job, scale=0.5)
    await world.deployments.after_publish(job, version)
    order = next(event.deploy for node, event in world.wires.sent if node == HOSPITAL)
    registry = Registry(key=world.key)
    serving = ModelServing(joined_node(tmp_path / "node", registry), MODE)
    await serving.start()
    try:
        link = CoordinatorLink(world, HOSPITAL)
        await serving.handle_deploy(order, link)
        await link.told()
        rows = await world.store.read(lambda tx: tx.models.deployments(node=HOSPITAL))
        assert [row.state for row in rows] == ["serving"]
        async with httpx.AsyncClient(base_url=serving.url) as client:
            answer = await client.post("/v1/models/risk/labels/latest:predict", json={"instances": [[1] * 8, [2] * 8]})
            expected = [[4 + i for i in range(16)], [8 + i for i in range(16)]]
            np.testing.assert_allclose(answer.json()["predictions"], expected, rtol=1e-3)
            await move(world, "champion", 1, 1)
            _, moved = world.wires.sent[-1]
            await serving.handle_deploy(moved.deploy, link)
            again = await client.post("/v1/models/risk/labels/champion:predict", json={"instances": [[1] * 8]})
            np.testing.assert_allclose(again.json()["predictions"], expected[:1], rtol=1e-3)
    finally:
        await serving.close()
