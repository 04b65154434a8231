"""The Connect stream: hello, welcome, then events both ways, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import structlog

from common.clock import Clock
from common.errors import BadInput, PlatformError, VersionMismatch
from common.wire import hansa_node_pb2 as pb
from common.wire.methods import PROTOCOL
from common.wire.version import check_protocol, release
from coordinator.ports.link import LinkEvents
from coordinator.rpc import convert
from coordinator.rpc.hub import Connection, Hub
from coordinator.rpc.limits import LinkLimits
from coordinator.rpc.peer import Peer

if TYPE_CHECKING:
    import grpc

_log = structlog.get_logger()


class EventStream:
    """Serves one Connect call after the other; holds no state of its own."""

    def __init__(self, hub: Hub, events: LinkEvents, clock: Clock, limits: LinkLimits) -> None:
        """Serve ``events`` through ``hub``."""
        self._hub, self._events, self._clock, self._limits = hub, events, clock, limits

    async def serve(self, admit: Callable[[], Awaitable[Peer]], context: grpc.aio.ServicerContext) -> None:
        """Run one stream to its end.

        ``admit`` says who calls.  It is asked when the hello is there: the node may have been shut out while we waited
        for that, and what is not in the hub yet cannot be cut.

        Raises:
            BadInput: no hello came first, in time. Others as ``admit``.
        """
        hello = await self._hello(context)
        try:
            check_protocol(hello.protocol, hello.release, who="the node")
        except VersionMismatch as error:
            await context.write(_farewell(error.code, f"{error.detail}; {error.next_step}"))
            raise
        skew = hello.node_time - self._clock.now()
        report = convert.report_of(hello.report, release=hello.release, skew_s=skew)
        held = convert.held_of(hello)
        peer = await admit()
        connection, older = self._hub.open(peer)
        connection.release, connection.skew_s = report.release, skew
        try:
            async with self._hub.turn(peer.id):
                if older is not None:
                    await older.closed.wait()
                jobs = await self._events.node_connected(peer.id, report, held)
            await context.write(self._welcome(peer, list(jobs)))
            for status in hello.deployed:
                await self._events.deploy_status(peer.id, status)
            _log.info("node_connected", node=peer.id, tenant=peer.node.tenant, skew_s=round(skew, 1))
            await self._converse(connection, context)
        finally:
            await self._close(connection)

    async def _close(self, connection: Connection) -> None:
        node = connection.peer.id
        if self._hub.close(connection):
            async with self._hub.turn(node):
                if node not in self._hub.connected():
                    await self._events.node_disconnected(node)
        _log.info("node_stream_ended", node=node, why=connection.farewell.code if connection.farewell else "")

    async def _hello(self, context: grpc.aio.ServicerContext) -> pb.Hello:
        try:
            async with asyncio.timeout(self._limits.hello_s):
                first: Any = await context.read()
        except TimeoutError:
            raise BadInput(f"no hello within {self._limits.hello_s:g} s", code="no_hello") from None
        if not isinstance(first, pb.NodeEvent) or first.WhichOneof("event") != "hello":
            raise BadInput("the first event must be Hello", code="no_hello")
        return first.hello

    def _welcome(self, peer: Peer, jobs: list[Any]) -> pb.CoordinatorEvent:
        return pb.CoordinatorEvent(
            welcome=pb.Welcome(
                protocol=PROTOCOL,
                release=release(),
                coordinator_time=self._clock.now(),
                node=peer.id,
                tenant=peer.node.tenant,
                name=peer.node.name,
                certificate_until=peer.certificate.not_after,
                running_jobs=jobs,
            )
        )

    async def _converse(self, connection: Connection, context: grpc.aio.ServicerContext) -> None:
        """Write what is queued and take what comes until either side ends it."""
        reading = asyncio.create_task(self._listen(connection, context))
        writing = asyncio.create_task(self._speak(connection, context))
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            if connection.farewell is not None:
                async with asyncio.timeout(self._limits.farewell_s):
                    await asyncio.wait({writing})  # whatever it is writing still
                    await context.write(pb.CoordinatorEvent(farewell=connection.farewell))
        except TimeoutError:
            pass  # it does not read; the stream ends without the last word
        finally:
            connection.end("closed", "the stream ended")  # nothing more is taken for it
            for task in (reading, writing):
                task.cancel()
            results = await asyncio.gather(reading, writing, return_exceptions=True)
        for result in results:
            if isinstance(result, PlatformError):
                raise result

    async def _speak(self, connection: Connection, context: grpc.aio.ServicerContext) -> None:
        while (event := await connection.next()) is not None:
            await context.write(event)

    async def _listen(self, connection: Connection, context: grpc.aio.ServicerContext) -> None:
        while connection.farewell is None:
            event: Any = await context.read()
            if not isinstance(event, pb.NodeEvent):  # grpc.aio.EOF: the node has ended its side
                return
            # A service's act, once begun, is never torn in the middle because the stream ends.
            act = asyncio.ensure_future(self._dispatch(connection, event))
            try:
                await asyncio.shield(act)
            except asyncio.CancelledError:
                await asyncio.wait({act})
                raise

    async def _dispatch(self, connection: Connection, event: pb.NodeEvent) -> None:
        try:
            await self._tell(connection, event)
        except PlatformError as error:  # one bad event does not end the conversation
            _log.warning(
                "node_event_refused",
                node=connection.peer.id,
                event_kind=event.WhichOneof("event"),
                code=error.code,
                detail=error.detail,
            )

    async def _tell(self, connection: Connection, event: pb.NodeEvent) -> None:
        events, peer, kind = self._events, connection.peer, event.WhichOneof("event")
        if kind == "task":
            convert.task_of(event.task.task)
            await events.task_status(peer.id, event.task)
        elif kind == "report":
            report = convert.report_of(event.report, release=connection.release, skew_s=connection.skew_s)
            await events.node_reported(peer.id, report)
        elif kind == "prepared":
            await events.node_prepared(peer.id, convert.job_of(event.prepared.job), convert.denials_of(event.prepared))
        elif kind == "mask":
            convert.task_of(event.mask.task)
            await events.mask_word(peer.id, event.mask)
        elif kind == "deploy":
            await events.deploy_status(peer.id, event.deploy)
        elif kind == "log":
            chunk = event.log
            await events.log_chunk(peer.id, convert.job_of(chunk.job), chunk.text[: self._limits.log_chars])
        else:
            raise BadInput(f"event {kind!r} has no place here")


def _farewell(code: str, message: str) -> pb.CoordinatorEvent:
    return pb.CoordinatorEvent(farewell=pb.Farewell(code=code, message=message))
