"""Whatever a node does on its link is put to the policies, with the node it is for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

import grpc.aio
import pytest

from client_node.adapters.grpc_channel import Channel, LinkOptions, translated
from client_node.services.credentials import load_credentials, next_key
from common.crypto.x509 import make_csr
from common.errors import NotFound, PolicyDenied
from common.wire import hansa_node_pb2 as pb
from policies.engine import Policies
from tests.integration.link_files import offer
from tests.integration.link_kit import TASK, Agent, Kit, NodeDir, node_id, open_kit, sha256

pytestmark = pytest.mark.integration
FORBIDS = {
    "node::connect": "no-streams",
    "node::renew": "no-renewals",
    "node::download": "no-downloads",
    "node::upload": "no-uploads",
}


def policies_that_forbid(action: str, folder: Path) -> Policies:
    own = folder / "local.cedar"
    own.write_text(f'@id("{FORBIDS[action]}")\nforbid (principal, action == Action::"{action}", resource);\n')
    return Policies.load(own)


def policies_without(permit: str) -> Policies:
    """This release's policies, less one of them."""
    folder = resources.files("policies")
    statements: list[str] = []
    for file in folder.joinpath("base").iterdir():
        statements += [f"@id({part}" for part in file.read_text(encoding="utf-8").split("@id(")[1:]]
    kept = [text for text in statements if not text.startswith(f'@id("{permit}")')]
    assert len(kept) == len(statements) - 1
    return Policies(folder.joinpath("hansa.cedarschema").read_text(encoding="utf-8"), kept)


@asynccontextmanager
async def link(folder: Path, policies: Policies | None = None) -> AsyncIterator[tuple[Kit, NodeDir]]:
    kit = await open_kit(folder, policies=policies)
    kit.desk.wanted[TASK] = True
    try:
        yield kit, await kit.node("a")
    finally:
        await kit.stop()


async def act(kit: Kit, place: NodeDir, action: str) -> None:
    """Do one thing as the node of ``place``."""
    if action in {"node::connect", "node::renew"}:
        await call(kit, place, action)
        return
    async with Agent(place, kit.address) as agent:
        if action == "node::download":
            await agent.link.download(offer(kit, b"weights"), place.root / "got")
        else:
            update = place.root / "update"
            update.write_bytes(b"update")
            await agent.link.upload(TASK, update, sha256(b"update"), 6)


async def call(kit: Kit, place: NodeDir, action: str) -> None:
    """The same without an agent, which would stop at its refused stream."""
    channel = Channel(kit.address, load_credentials(place), LinkOptions())
    try:
        if action == "node::connect":
            await channel.connect().read()
        else:
            await channel.renew(pb.RenewRequest(csr=make_csr(next_key(place))), timeout=10)
    except grpc.aio.AioRpcError as error:
        raise translated(error) from error
    finally:
        await channel.close()


@pytest.mark.parametrize("action", FORBIDS)
async def test_a_forbid_stops_the_act_and_is_named(action: str, tmp_path: Path) -> None:
    async with link(tmp_path, policies_that_forbid(action, tmp_path)) as (kit, place):
        with pytest.raises(PolicyDenied, match=FORBIDS[action]):
            await act(kit, place, action)
    assert not kit.desk.updates


@pytest.mark.parametrize(
    ("action", "permit"),
    [
        ("node::connect", "node-speaks-for-itself"),
        ("node::renew", "node-speaks-for-itself"),
        ("node::download", "node-fetches-what-it-was-offered"),
        ("node::upload", "node-answers-its-own-tasks"),
    ],
)
async def test_without_its_permit_the_act_is_refused(action: str, permit: str, tmp_path: Path) -> None:
    async with link(tmp_path, policies_without(permit)) as (kit, place):
        with pytest.raises(PolicyDenied, match=f"policy refuses {action}"):
            await act(kit, place, action)
    assert not kit.desk.updates


async def test_an_object_offered_to_another_node_is_refused_by_policy(tmp_path: Path) -> None:
    async with link(tmp_path) as (kit, place):
        other = await kit.node("b")
        ref = offer(kit, b"for b alone")
        kit.desk.meant_for[ref.digest] = node_id(other)
        async with Agent(place, kit.address) as agent:
            with pytest.raises(PolicyDenied, match="policy refuses node::download"):
                await agent.link.download(ref, place.root / "got")
        assert not (place.root / "got").exists()
        async with Agent(other, kit.address) as agent:
            await agent.link.download(ref, other.root / "got")
        assert (other.root / "got").read_bytes() == b"for b alone"


async def test_a_task_of_another_node_is_refused_by_policy_and_nothing_is_spooled(tmp_path: Path) -> None:
    async with link(tmp_path) as (kit, place):
        kit.desk.meant_for[TASK] = node_id(await kit.node("b"))
        update = place.root / "update"
        update.write_bytes(b"update")
        async with Agent(place, kit.address) as agent:
            with pytest.raises(PolicyDenied, match="policy refuses node::upload"):
                await agent.link.upload(TASK, update, sha256(b"update"), 6)
        assert not [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    assert not kit.desk.updates


async def test_what_nobody_was_offered_is_not_there(tmp_path: Path) -> None:
    async with link(tmp_path) as (kit, place), Agent(place, kit.address) as agent:
        ref = pb.ContentRef(digest=sha256(b"unknown"), size=7)
        with pytest.raises(NotFound):
            await agent.link.download(ref, place.root / "got")
