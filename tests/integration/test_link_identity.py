"""Who may speak on the node link: certificates, standing, join tokens."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace

import grpc
import grpc.aio
import pytest

from client_node.adapters.grpc_channel import Channel, LinkOptions
from client_node.services.credentials import Credentials, install_renewed, load_credentials, next_key
from common.clock import SystemClock
from common.crypto.keys import load_p256, new_p256, private_pem, public_sha256
from common.crypto.x509 import issue_node_cert, load_ca, make_ca, make_csr, read_node_cert
from common.errors import BadInput, PlatformError, PolicyDenied, Unauthenticated
from common.wire import hansa_node_pb2 as pb
from common.wire import methods
from common.wire.methods import PROTOCOL
from common.wire.status import error_of
from coordinator.domain.nodes import NodeStatus
from tests.integration.link_kit import TASK, Agent, Kit, NodeDir, eventually, node_id, sha256

pytestmark = pytest.mark.integration


async def ask_offset(channel: Channel) -> pb.UploadOffset | PlatformError:
    key = pb.UploadKey(task=TASK, digest=sha256(b"x"), size=1)
    try:
        return await channel.upload_offset(key, timeout=60)
    except grpc.aio.AioRpcError as error:
        return error_of(error.code(), error.details(), error.trailing_metadata())


def other_identity(place: NodeDir, **changes: bytes) -> Credentials:
    return replace(load_credentials(place), **changes)


async def test_a_caller_without_a_certificate_does_not_get_through_tls(kit: Kit) -> None:
    credentials = grpc.ssl_channel_credentials(kit.keyring.ca.pem)
    async with grpc.aio.secure_channel(kit.address, credentials) as channel:
        call = channel.unary_unary(methods.RENEW, pb.RenewRequest.SerializeToString, pb.RenewReply.FromString)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(pb.RenewRequest(csr=b""), timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_of_another_ca_is_refused_by_tls(kit: Kit) -> None:
    place = await kit.node("a")
    stranger = load_ca(*make_ca("stranger"))
    mine = load_credentials(place)
    says = mine.says
    forged = issue_node_cert(
        stranger, make_csr(load_p256(place.key)), says.tenant, says.node, 1, 3600, SystemClock().now()
    )
    channel = Channel(kit.address, replace(mine, certificate=forged), LinkOptions())
    error = await ask_offset(channel)
    await channel.close()
    assert isinstance(error, PlatformError)
    assert error.code == "unreachable"


async def test_the_servers_own_certificate_does_not_make_a_node(kit: Kit) -> None:
    place = await kit.node("a")
    as_server = other_identity(place, key=kit.keyring.tls_key, certificate=kit.keyring.tls_certificate)
    channel = Channel(kit.address, as_server, LinkOptions())
    assert isinstance(await ask_offset(channel), PlatformError)
    await channel.close()
    assert kit.desk.told == []


async def test_a_node_refuses_a_coordinator_of_another_ca_and_says_why(kit: Kit) -> None:
    place = await kit.node("a")
    place.ca.write_bytes(make_ca("another")[1])
    async with Agent(place, kit.address) as agent:
        await agent.until(lambda: any(s == "waiting" for s, _ in agent.states))
    assert "another CA than the one pinned at join" in next(d for s, d in agent.states if s == "waiting")


async def test_a_revoked_nodes_open_stream_is_cut_at_once_and_it_stays_out(kit: Kit) -> None:
    place = await kit.node("a")
    async with Agent(place, kit.address) as agent:
        await agent.connected()
        await kit.enrolment.revoke(node_id(place))
        await eventually(lambda: "disconnected" in kit.desk.kinds())
        await agent.until(lambda: sum(s == "refused" for s, _ in agent.states) >= 2)
        assert "has been revoked" in agent.states[-1][1] or "has been revoked" in agent.states[-2][1]
        assert kit.hub.connected() == frozenset()
        assert kit.desk.kinds() == ["connected", "disconnected"]


async def test_a_node_that_holds_its_hello_back_is_not_in_when_it_is_revoked_meanwhile(kit: Kit) -> None:
    place = await kit.node("a")
    channel = Channel(kit.address, load_credentials(place), LinkOptions())
    call = channel.connect()
    await eventually(lambda: node_id(place) in kit.enrolment._standing)  # admitted: it need only say hello
    await kit.enrolment.revoke(node_id(place))
    await call.write(pb.NodeEvent(hello=pb.Hello(protocol=PROTOCOL)))
    assert await asyncio.wait_for(call.code(), 60) is grpc.StatusCode.PERMISSION_DENIED
    assert dict(await call.trailing_metadata())["hansa-code"] == "node_revoked"
    assert kit.desk.kinds() == []
    await channel.close()


async def test_a_standing_that_changes_while_it_is_read_is_not_remembered(kit: Kit) -> None:
    node = node_id(await kit.node("a"))
    store, seen, go = kit.enrolment._store, asyncio.Event(), asyncio.Event()

    class Slow:
        """A store whose answer is old when it arrives."""

        write = store.write

        async def read(self, work):
            found = await store.read(work)
            seen.set()
            await go.wait()
            return found

    kit.enrolment._store = Slow()  # type: ignore[assignment]
    checking = asyncio.create_task(kit.enrolment.check(node, 1))
    await seen.wait()
    await kit.enrolment.revoke(node)
    go.set()
    with pytest.raises(PolicyDenied):
        await checking


async def test_revocation_cuts_a_running_upload(kit: Kit) -> None:
    place, data = await kit.node("a"), b"x" * 4_000_000
    kit.desk.wanted[TASK] = True
    channel = Channel(kit.address, load_credentials(place), LinkOptions())
    header = {"hansa-task": TASK, "hansa-digest": sha256(data), "hansa-size": str(len(data)), "hansa-offset": "0"}
    call = channel.upload(metadata=tuple(header.items()))
    await call.write(data[:1_000_000])
    await eventually(lambda: kit.hub.calls(node_id(place)) == 1)
    await kit.enrolment.revoke(node_id(place))
    assert await asyncio.wait_for(call.code(), 60) is grpc.StatusCode.PERMISSION_DENIED
    assert dict(await call.trailing_metadata())["hansa-code"] == "node_revoked"
    await channel.close()


async def test_a_certificate_that_expires_on_an_open_connection_is_refused_on_the_next_call(kit: Kit) -> None:
    place = await kit.node("a")
    kit.desk.wanted[TASK] = True
    channel = Channel(kit.address, load_credentials(place), LinkOptions())
    assert isinstance(await ask_offset(channel), pb.UploadOffset)
    kit.clock.offset = 86_401.0  # type: ignore[attr-defined]
    error = await ask_offset(channel)
    await channel.close()
    assert isinstance(error, Unauthenticated)
    assert error.code == "certificate_expired"


async def test_a_stream_ends_when_its_certificate_expires(kit: Kit) -> None:
    place = await kit.node("a")
    async with Agent(place, kit.address) as agent:
        await agent.connected()
        kit.clock.offset = 86_401.0  # type: ignore[attr-defined]
        await agent.until(lambda: agent.states[-1][0] == "refused")
        assert "expired at" in agent.states[-1][1]


async def test_an_unknown_node_with_a_certificate_of_this_ca_is_refused(kit: Kit) -> None:
    place = await kit.node("a")
    ghost = issue_node_cert(
        kit.keyring.ca, make_csr(load_p256(place.key)), "acme", "node_ghost", 1, 3600, SystemClock().now()
    )
    channel = Channel(kit.address, other_identity(place, certificate=ghost), LinkOptions())
    error = await ask_offset(channel)
    await channel.close()
    assert isinstance(error, PolicyDenied)
    assert error.code == "node_unknown"


async def test_a_renewal_takes_over_without_the_services_seeing_the_node_go(kit: Kit) -> None:
    place = await kit.node("a")
    async with Agent(place, kit.address) as agent:
        await agent.connected()
        reply = await agent.link.renew(make_csr(next_key(place)))
        install_renewed(place, reply.certificate)
        await agent.link.reconnect()
        await agent.connected(2)
        kit.hub.send(node_id(place), pb.CoordinatorEvent(closed=pb.ExchangeClosed(job="j", seq=7)))
        await agent.until(lambda: agent.events[-1].closed.seq == 7)
        assert [s for s, _ in agent.states if s in {"waiting", "refused"}] == []
    assert reply.generation == load_credentials(place).says.generation == 2
    assert kit.desk.kinds()[:2] == ["connected", "connected"]


async def test_a_copied_node_is_quarantined_with_its_original_when_both_renew(kit: Kit) -> None:
    place = await kit.node("a")
    original, copy = load_credentials(place), load_credentials(place)
    node, key = node_id(place), original.says.key_sha256
    _, _, generation = await kit.enrolment.renew(node, 1, key, make_csr(new_p256()))
    assert generation == 2
    with pytest.raises(PolicyDenied) as caught:
        await kit.enrolment.renew(node, 1, copy.says.key_sha256, make_csr(new_p256()))
    assert caught.value.code == "node_quarantined"
    with pytest.raises(PolicyDenied, match="two copies"):
        await kit.enrolment.check(node, 2)
    stored = await kit.store.read(lambda tx: tx.nodes.get(node))
    assert stored is not None
    assert stored.status is NodeStatus.QUARANTINED


async def test_a_lost_renewal_reply_is_given_again_for_the_same_new_key(kit: Kit) -> None:
    place = await kit.node("a")
    says, fresh = load_credentials(place).says, new_p256()
    first, _, _ = await kit.enrolment.renew(node_id(place), 1, says.key_sha256, make_csr(fresh))
    again, _, generation = await kit.enrolment.renew(node_id(place), 1, says.key_sha256, make_csr(fresh))
    assert generation == 2
    assert read_node_cert(first).key_sha256 == read_node_cert(again).key_sha256 == public_sha256(fresh)


async def test_a_renewal_with_the_old_key_is_refused(kit: Kit) -> None:
    place = await kit.node("a")
    says = load_credentials(place).says
    with pytest.raises(BadInput, match="new key"):
        await kit.enrolment.renew(node_id(place), 1, says.key_sha256, make_csr(load_p256(place.key)))


async def test_a_generation_two_behind_is_quarantined_on_any_call(kit: Kit) -> None:
    place = await kit.node("a")
    stale, node = load_credentials(place), node_id(place)
    key = stale.says.key_sha256
    for generation in (1, 2):
        fresh = new_p256()
        await kit.enrolment.renew(node, generation, key, make_csr(fresh))
        key = public_sha256(fresh)
    channel = Channel(kit.address, stale, LinkOptions())
    error = await ask_offset(channel)
    await channel.close()
    assert isinstance(error, PolicyDenied)
    assert error.code == "node_quarantined"


@pytest.mark.parametrize(
    ("ciphers", "accepted"),
    [("ECDHE-ECDSA-AES128-GCM-SHA256", True), ("ECDHE-ECDSA-AES128-SHA", False), ("AES128-GCM-SHA256", False)],
)
async def test_tls_1_2_is_offered_with_forward_secret_authenticated_suites_only(
    kit: Kit, ciphers: str, accepted: bool
) -> None:
    place = await kit.node("a")
    mine = load_credentials(place)
    context = ssl.create_default_context(cadata=mine.ca.decode())
    chain = kit.folder / "chain.pem"
    chain.write_bytes(private_pem(load_p256(place.key)) + mine.certificate)
    context.load_cert_chain(chain)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers + ":@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", kit.port, ssl=context)
    except (ssl.SSLError, ConnectionError):
        assert not accepted
        return
    assert accepted
    writer.transport.abort()
