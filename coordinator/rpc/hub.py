"""The connected nodes: one outbound queue each, the newest connection wins."""

from __future__ import annotations

import asyncio
from collections import deque
from weakref import WeakValueDictionary

import structlog

from common.errors import LeaseLost, PlatformError, PolicyDenied, Unauthenticated
from common.ids import NodeId
from common.wire import hansa_node_pb2 as pb
from coordinator.rpc.peer import Peer

_log = structlog.get_logger()
_KIND = {"certificate_expired": Unauthenticated, "overloaded": LeaseLost}


class Connection:
    """One open Connect stream: what is to be sent, and whether it is over."""

    def __init__(self, peer: Peer, limit: int) -> None:
        """Start with an empty queue that holds at most ``limit`` events."""
        self.peer = peer
        self.release, self.skew_s = "", 0.0  # as its hello said
        self.closed = asyncio.Event()  # set once the stream's last service call has returned
        self.farewell: pb.Farewell | None = None
        self._limit, self._queue, self._wake = limit, deque[pb.CoordinatorEvent](), asyncio.Event()

    def put(self, event: pb.CoordinatorEvent) -> bool:
        """Queue ``event``; False if the stream is over or the node has not read for too long."""
        if self.farewell is not None:
            return False
        if len(self._queue) >= self._limit:
            self.end("overloaded", f"{self._limit} events wait for this node")
            return False
        self._queue.append(event)
        self._wake.set()
        return True

    def end(self, code: str, message: str) -> None:
        """Drop what is queued; a farewell is the last event."""
        if self.farewell is None:
            self.farewell = pb.Farewell(code=code, message=message)
            self._queue.clear()
            self._wake.set()

    async def next(self) -> pb.CoordinatorEvent | None:
        """Return the next event to write, None once the stream is over."""
        while True:
            if self.farewell is not None:
                return None
            if self._queue:
                return self._queue.popleft()
            self._wake.clear()
            await self._wake.wait()


class Hub:
    """Implements ``coordinator.ports.link.NodeLink``."""

    def __init__(self, queued_events: int = 10_000) -> None:
        """Start with nobody connected."""
        self._queued_events = queued_events
        self._connections: dict[NodeId, Connection] = {}
        self._calls: dict[NodeId, dict[asyncio.Task[object], PlatformError | None]] = {}
        self._turns: WeakValueDictionary[NodeId, asyncio.Lock] = WeakValueDictionary()

    def send(self, node: NodeId, event: pb.CoordinatorEvent) -> bool:
        """Queue ``event`` for ``node``; return whether it is connected."""
        connection = self._connections.get(node)
        return connection is not None and connection.put(event)

    def connected(self) -> frozenset[NodeId]:
        """Return the nodes connected now."""
        return frozenset(self._connections)

    def disconnect(self, node: NodeId, code: str, message: str) -> None:
        """End the node's stream with a farewell, and its running transfers with an error."""
        connection = self._connections.get(node)
        if connection is not None:
            connection.end(code, message)
        error = _KIND.get(code, PolicyDenied)(message, code=code)
        for task in self._calls.get(node, {}):
            self._calls[node][task] = error
            task.cancel()
        _log.info("node_cut", node=node, code=code)

    def open(self, peer: Peer) -> tuple[Connection, Connection | None]:
        """Enter a new stream; return it and the older one of the same node, which is told to end."""
        older = self._connections.get(peer.id)
        if older is not None:
            older.end("superseded", "a newer connection of this node took over")
        connection = Connection(peer, self._queued_events)
        self._connections[peer.id] = connection
        return connection, older

    def close(self, connection: Connection) -> bool:
        """Take a stream out; return whether it was the node's newest, so that the node is now gone."""
        connection.closed.set()
        if self._connections.get(connection.peer.id) is not connection:
            return False
        del self._connections[connection.peer.id]
        return True

    def connections(self) -> tuple[Connection, ...]:
        """Return the open streams."""
        return tuple(self._connections.values())

    def turn(self, node: NodeId) -> asyncio.Lock:
        """Return the lock under which services are told of ``node`` coming and going, one at a time."""
        return self._turns.setdefault(node, asyncio.Lock())

    def calls(self, node: NodeId) -> int:
        """Return how many transfers of ``node`` run."""
        return len(self._calls.get(node, {}))

    def enter_call(self, node: NodeId, task: asyncio.Task[object]) -> None:
        """Note a transfer, so that ``disconnect`` can cut it."""
        self._calls.setdefault(node, {})[task] = None

    def leave_call(self, node: NodeId, task: asyncio.Task[object]) -> PlatformError | None:
        """Forget a transfer; return why it was cut, if it was."""
        calls = self._calls.get(node, {})
        why = calls.pop(task, None)
        if not calls:
            self._calls.pop(node, None)
        return why
