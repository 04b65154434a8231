"""Connections, queues and calls, without a socket."""

from __future__ import annotations

import asyncio

import pytest

from common.crypto.x509 import NodeCertificate
from common.errors import PolicyDenied, Unauthenticated
from common.ids import NodeId, TenantId
from common.wire import hansa_node_pb2 as pb
from coordinator.domain.nodes import Node, NodeStatus
from coordinator.rpc.hub import Hub
from coordinator.rpc.peer import Peer

A = NodeId("node_a")


def peer(node: NodeId = A) -> Peer:
    record = Node(node, TenantId("acme"), "a", NodeStatus.ACTIVE, 1, "k", 2.0, 1.0)
    return Peer(record, NodeCertificate("acme", node, 1, 2.0, "k"))


def event(seq: int) -> pb.CoordinatorEvent:
    return pb.CoordinatorEvent(closed=pb.ExchangeClosed(seq=seq))


async def test_events_wait_in_order_for_a_connected_node_only() -> None:
    hub = Hub()
    assert not hub.send(A, event(0))
    connection, older = hub.open(peer())
    assert older is None
    assert [hub.send(A, event(seq)) for seq in range(3)] == [True] * 3
    assert [(await connection.next()).closed.seq for _ in range(3)] == [0, 1, 2]  # type: ignore[union-attr]
    assert hub.connected() == {A}
    assert hub.close(connection)
    assert hub.connected() == frozenset()


async def test_the_newest_connection_wins_and_the_older_is_told() -> None:
    hub = Hub()
    first, _ = hub.open(peer())
    hub.send(A, event(1))
    second, older = hub.open(peer())
    assert older is first
    assert first.farewell is not None
    assert first.farewell.code == "superseded"
    assert await first.next() is None, "what was queued for the older one is not delivered twice"
    hub.send(A, event(2))
    assert not hub.close(first), "the node is still here"
    assert hub.connected() == {A}
    assert (await second.next()).closed.seq == 2  # type: ignore[union-attr]


async def test_a_node_that_does_not_read_is_cut_before_memory_is_full() -> None:
    hub = Hub(queued_events=3)
    connection, _ = hub.open(peer())
    assert [hub.send(A, event(n)) for n in range(5)] == [True, True, True, False, False]
    assert connection.farewell is not None
    assert connection.farewell.code == "overloaded"


async def test_a_waiting_writer_wakes_for_an_event_and_for_the_end() -> None:
    hub = Hub()
    connection, _ = hub.open(peer())
    waiting = asyncio.create_task(connection.next())
    await asyncio.sleep(0)
    hub.send(A, event(9))
    assert (await waiting).closed.seq == 9  # type: ignore[union-attr]
    waiting = asyncio.create_task(connection.next())
    await asyncio.sleep(0)
    hub.disconnect(A, "node_revoked", "gone")
    assert await waiting is None


@pytest.mark.parametrize(("code", "kind"), [("node_revoked", PolicyDenied), ("certificate_expired", Unauthenticated)])
async def test_disconnecting_cancels_transfers_and_keeps_the_reason(code: str, kind: type[Exception]) -> None:
    hub = Hub()
    task: asyncio.Task[object] = asyncio.ensure_future(asyncio.Event().wait())
    hub.enter_call(A, task)
    hub.disconnect(A, code, "because")
    await asyncio.wait({task})
    why = hub.leave_call(A, task)
    assert task.cancelled()
    assert isinstance(why, kind)
    assert why.code == code
    assert hub.calls(A) == 0
