"""The event stream: order, one connection a node, restarts, versions, hostile first words."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from client_node.adapters.diagnosis import diagnose
from client_node.adapters.grpc_channel import Channel, LinkOptions
from client_node.services.credentials import load_credentials
from common.clock import ManualClock, SystemClock
from common.crypto.keys import load_p256
from common.crypto.x509 import issue_node_cert, load_ca, make_ca, make_csr, read_node_cert
from common.ids import JobId
from common.units import Seconds
from common.wire import hansa_node_pb2 as pb
from common.wire.methods import PROTOCOL
from coordinator.rpc.limits import LinkLimits
from tests.integration.link_files import joined_node, start_server
from tests.integration.link_kit import FAST, Agent, Kit, eventually, node_id, open_kit

pytestmark = pytest.mark.integration


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = await open_kit(tmp_path, limits=LinkLimits(hello_s=Seconds(0.3), queued_events=10_000))
    yield made
    await made.stop()


def closed(seq: int) -> pb.CoordinatorEvent:
    return pb.CoordinatorEvent(closed=pb.ExchangeClosed(job="job_1", seq=seq))


def said(text: str) -> pb.NodeEvent:
    return pb.NodeEvent(task=pb.TaskStatus(task="job_1/0/0", message=text))


async def test_events_arrive_in_order_both_ways_with_welcome_first(kit: Kit) -> None:
    place = await kit.node("a")
    node = node_id(place)
    # What a service sends while it is told of the connection must still come behind the welcome.
    kit.desk.on_connected = lambda n: [kit.hub.send(n, closed(seq)) for seq in range(100)]
    kit.desk.running = [JobId("job_1")]
    async with Agent(place, kit.address) as agent:
        await agent.connected()
        for seq in range(100, 2000):
            assert kit.hub.send(node, closed(seq))
        for number in range(2000):
            assert agent.link.send(said(str(number)))
        await agent.until(lambda: len(agent.events) == 2001)
        await eventually(lambda: len(kit.desk.told) == 2001)
    welcome = agent.events[0].welcome
    assert (welcome.node, welcome.tenant, welcome.name) == (node, "acme", "a")
    assert list(welcome.running_jobs) == ["job_1"]
    assert [e.closed.seq for e in agent.events[1:]] == list(range(2000))
    assert [text for kind, _, text in kit.desk.told if kind == "task"] == [str(n) for n in range(2000)]


async def test_what_a_node_reports_and_holds_reaches_the_services(kit: Kit) -> None:
    place = await kit.node("a")
    agent = Agent(place, kit.address)
    offer = pb.DatasetOffer(
        federation="fed", name="hearts", format="csv", rows=3, digest="d", columns=[pb.Column(name="age", type="f")]
    )
    agent.hello_report = pb.NodeReport(datasets=[offer], slots=2, sandbox="bwrap")
    agent.held = [pb.HeldUpdate(task="job_1/0/0", digest="a" * 64, size=9, content="b" * 64)]
    async with agent:
        await agent.connected()
        agent.link.send(pb.NodeEvent(prepared=pb.Prepared(job="job_1", denials=[pb.Denial(code="c", message="m")])))
        agent.link.send(pb.NodeEvent(report=pb.NodeReport(slots=5)))
        agent.link.send(pb.NodeEvent(log=pb.LogChunk(job="job_1", text="hello")))
        agent.link.send(pb.NodeEvent(deploy=pb.DeployStatus(model="acme/m", version=1)))
        await eventually(lambda: len(kit.desk.told) == 5)
    (_, _, connected), (_, _, prepared), (_, _, reported), (_, _, log), (_, _, deploy) = kit.desk.told[:5]
    report, held = connected  # type: ignore[misc]
    assert (report.slots, report.sandbox, report.datasets[0].columns) == (2, "bwrap", (("age", "f"),))
    assert abs(report.skew_s) < 5
    assert held == {"job_1/0/0": ("a" * 64, 9, "b" * 64)}
    assert prepared == ("job_1", (("c", "m"),))
    assert (reported.slots, reported.release) == (5, report.release)  # type: ignore[attr-defined]
    assert (log, deploy) == ("hello", "acme/m")


async def test_a_newer_connection_of_a_node_supersedes_the_older_one(kit: Kit) -> None:
    place = await kit.node("a")
    slow = LinkOptions(refused_pause_s=Seconds(60))
    async with Agent(place, kit.address, options=slow) as first:
        await first.connected()
        async with Agent(place, kit.address, options=slow) as second:
            await second.connected()
            await first.until(lambda: first.states[-1][0] == "refused")
            assert "a newer connection of this node took over" in first.states[-1][1]
            assert kit.hub.connected() == {node_id(place)}
            assert kit.hub.send(node_id(place), closed(1))
            await second.until(lambda: second.events[-1].closed.seq == 1)
            assert kit.desk.kinds() == ["connected", "connected"]
    await eventually(lambda: kit.desk.kinds()[-1] == "disconnected")
    assert kit.hub.connected() == frozenset()


async def test_what_is_sent_to_nobody_is_dropped_and_said_so(kit: Kit) -> None:
    place = await kit.node("a")
    agent = Agent(place, kit.address)
    assert not kit.hub.send(node_id(place), closed(1))
    assert not agent.link.send(said("early"))


async def test_one_refused_event_does_not_end_the_stream(kit: Kit) -> None:
    place = await kit.node("a")
    async with Agent(place, kit.address) as agent:
        await agent.connected()
        agent.link.send(pb.NodeEvent(task=pb.TaskStatus(task="job_unknown/0/0")))
        agent.link.send(pb.NodeEvent(task=pb.TaskStatus(task="../../etc/passwd")))
        agent.link.send(pb.NodeEvent(hello=pb.Hello()))
        agent.link.send(said("still here"))
        await eventually(lambda: kit.desk.kinds() == ["connected", "task"])


async def test_an_act_that_has_begun_is_finished_when_the_stream_ends(kit: Kit) -> None:
    place = await kit.node("a")
    kit.desk.slow = asyncio.Event()
    async with Agent(place, kit.address) as agent:
        await agent.connected()
        agent.link.send(said("begun"))
        await eventually(lambda: kit.desk.begun == 1)
    kit.desk.slow.set()
    await eventually(lambda: kit.desk.kinds() == ["connected", "task", "disconnected"])


async def test_a_call_that_does_not_begin_with_hello_is_refused(kit: Kit) -> None:
    place = await kit.node("a")
    channel = Channel(kit.address, load_credentials(place), LinkOptions())
    call = channel.connect()
    await call.write(said("no hello"))
    assert (await call.code()).name == "INVALID_ARGUMENT"
    silent = channel.connect()
    assert (await asyncio.wait_for(silent.code(), 60)).name == "INVALID_ARGUMENT"
    flood = channel.connect()
    report = pb.NodeReport(environments=["e"] * 101)
    await flood.write(pb.NodeEvent(hello=pb.Hello(protocol=PROTOCOL, report=report)))
    assert (await flood.code()).name == "INVALID_ARGUMENT"
    await channel.close()
    assert kit.desk.told == []


async def test_an_event_of_five_megabytes_is_refused_and_the_server_goes_on(kit: Kit) -> None:
    place = await kit.node("a")
    channel = Channel(kit.address, load_credentials(place), LinkOptions())
    call = channel.connect()
    await call.write(pb.NodeEvent(log=pb.LogChunk(text="x" * 5_000_000)))
    assert (await call.code()).name == "RESOURCE_EXHAUSTED"
    await channel.close()
    async with Agent(place, kit.address) as agent:
        await agent.connected()


async def test_another_protocol_version_is_named_to_both_sides(kit: Kit) -> None:
    place = await kit.node("a")
    channel = Channel(kit.address, load_credentials(place), LinkOptions())
    call = channel.connect()
    await call.write(pb.NodeEvent(hello=pb.Hello(protocol=PROTOCOL + 1, release="9.9")))
    farewell = (await call.read()).farewell
    assert farewell.code == "version_mismatch"
    assert "9.9" in farewell.message
    assert f"protocol {PROTOCOL + 1}" in farewell.message
    assert (await call.code()).name == "FAILED_PRECONDITION"
    await channel.close()


async def test_the_agent_finds_a_restarted_coordinator_by_itself_and_says_what_is_wrong_meanwhile(
    tmp_path: Path,
) -> None:
    place = await joined_node(tmp_path)
    server, port = await start_server(tmp_path)
    async with Agent(place, f"127.0.0.1:{port}") as agent:
        await agent.connected()
        server.send_signal(signal.SIGKILL)
        await server.wait()
        await agent.until(lambda: any("refuses connections" in d for s, d in agent.states if s == "waiting"))
        server, _ = await start_server(tmp_path, port)
        await agent.connected(2)
    server.kill()
    await server.wait()


async def test_a_peer_that_falls_silent_is_noticed_by_keepalive(tmp_path: Path) -> None:
    place = await joined_node(tmp_path)
    server, port = await start_server(tmp_path)
    options = LinkOptions(
        keepalive_s=Seconds(0.5),
        keepalive_timeout_s=Seconds(0.5),
        connect_s=Seconds(0.5),
        first_pause_s=Seconds(0.05),
        longest_pause_s=Seconds(0.1),
    )
    async with Agent(place, f"127.0.0.1:{port}", options=options) as agent:
        await agent.connected()
        server.send_signal(signal.SIGSTOP)  # its socket stays open, nothing answers
        await agent.until(lambda: agent.states[-1][0] in {"waiting", "connecting"})
        server.send_signal(signal.SIGCONT)
        await agent.connected(2)
    server.kill()
    await server.wait()


async def test_five_hundred_silent_connections_do_not_keep_a_node_out(kit: Kit) -> None:
    idle = [socket.create_connection(("127.0.0.1", kit.port)) for _ in range(500)]
    for number, sock in enumerate(idle):
        if number % 2:
            sock.send(b"\x16\x03\x01\x02")  # half a TLS record
    place = await kit.node("a")
    async with Agent(place, kit.address) as agent:
        await agent.connected()
    for sock in idle:
        sock.close()


async def test_the_diagnosis_names_dns_refusal_wrong_host_and_a_wrong_clock(kit: Kit) -> None:
    place = await kit.node("a")
    mine, now = load_credentials(place), SystemClock()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        unused = probe.getsockname()[1]
    assert "does not resolve" in await asyncio.to_thread(diagnose, "nowhere.invalid:1", mine, now)
    assert "refuses connections" in await asyncio.to_thread(diagnose, f"127.0.0.1:{unused}", mine, now)
    assert "not for localhost" in await asyncio.to_thread(diagnose, f"localhost:{kit.port}", mine, now)
    late = ManualClock(now.now() + 2 * 86400)
    assert "certificate expired at" in diagnose(kit.address, mine, late)
    assert "this machine's clock is wrong" in diagnose(kit.address, mine, ManualClock(0.0))


async def test_the_diagnosis_knows_a_certificate_the_coordinator_does_not_like(kit: Kit) -> None:
    place = await kit.node("a")
    mine, now = load_credentials(place), SystemClock().now()
    csr = make_csr(load_p256(place.key))
    of_another_ca = issue_node_cert(load_ca(*make_ca("x")), csr, "acme", mine.says.node, 1, 86400, now)
    begins_later = issue_node_cert(kit.keyring.ca, csr, "acme", mine.says.node, 1, 86400, now + 7200)
    for pem in (of_another_ca, begins_later):
        theirs = replace(mine, certificate=pem, says=read_node_cert(pem))
        sentence = await asyncio.to_thread(diagnose, kit.address, theirs, ManualClock(theirs.says.not_before + 1))
        assert "hangs up on this node's certificate" in sentence
    assert await asyncio.to_thread(diagnose, kit.address, mine, SystemClock()) == ""


async def test_the_diagnosis_knows_a_port_that_is_not_the_node_links(kit: Kit) -> None:
    place = await kit.node("a")

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP" + bytes([13, 10]))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sentence = await asyncio.to_thread(diagnose, f"127.0.0.1:{port}", load_credentials(place), SystemClock())
    assert "is it the right port?" in sentence


async def test_closing_the_link_ends_a_waiting_transfer(kit: Kit) -> None:
    from common.errors import LeaseLost

    place = await kit.node("a")
    agent = Agent(place, "127.0.0.1:1", options=FAST)
    async with agent:
        ref = pb.ContentRef(digest="0" * 64, size=1)
        waiting = asyncio.create_task(agent.link.download(ref, kit.folder / "never"))
        await asyncio.sleep(0.05)
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(waiting, 60)
