"""One event stream from Hello to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc.aio
import structlog

from client_node.adapters.grpc_channel import Channel, translated
from client_node.ports.link import LinkClient
from common.clock import Clock
from common.errors import LeaseLost, PlatformError, PolicyDenied, Unauthenticated, VersionMismatch
from common.wire import hansa_node_pb2 as pb
from common.wire.methods import PROTOCOL
from common.wire.status import error_of
from common.wire.version import check_protocol, release

MAX_QUEUED = 10_000  # events that wait to be written
SKEW_S = 60.0  # seconds of difference between the clocks worth a word
_log = structlog.get_logger()
_FAREWELLS: dict[str, type[PlatformError]] = {
    "version_mismatch": VersionMismatch,
    "certificate_expired": Unauthenticated,
    "superseded": LeaseLost,
    "stopping": LeaseLost,
    "overloaded": LeaseLost,
}


async def open_session(channel: Channel, handler: LinkClient, clock: Clock) -> Session:
    """Say hello on ``channel`` and return the session once the coordinator has welcomed us.

    Raises:
        PlatformError: whatever the coordinator or the network says; the caller closes the channel.
    """
    hello = await handler.hello()
    hello.protocol, hello.release, hello.node_time = PROTOCOL, release(), clock.now()
    call: Any = channel.connect()
    try:
        await call.write(pb.NodeEvent(hello=hello))
        first = await call.read()
        if not isinstance(first, pb.CoordinatorEvent):
            raise LeaseLost("the coordinator ended the stream before it said welcome")
    except grpc.aio.AioRpcError as error:
        raise translated(error) from error
    except asyncio.InvalidStateError:  # the write found the call over: its status says why
        raise await _status(call) from None
    kind = first.WhichOneof("event")
    if kind == "farewell":
        raise farewell_error(first.farewell)
    if kind != "welcome":
        raise LeaseLost("the coordinator's first event is no welcome")
    check_protocol(first.welcome.protocol, first.welcome.release, who="the coordinator")
    await handler.on_event(first)
    return Session(channel, call, first.welcome, clock)


class Session:
    """A welcomed stream; ``listen`` starts it, ``ended`` tells why it is over."""

    def __init__(self, channel: Channel, call: Any, welcome: pb.Welcome, clock: Clock) -> None:  # noqa: ANN401 - grpc is untyped
        """Wrap an open ``call`` on ``channel``."""
        self.channel = channel
        skew = clock.now() - welcome.coordinator_time
        self.greeting = f"as {welcome.tenant}/{welcome.name}"
        if abs(skew) > SKEW_S:
            word = "ahead of" if skew > 0 else "behind"
            self.greeting += f"; this machine's clock is {abs(skew):.0f} s {word} the coordinator's"
        self._call, self._queue, self._wake = call, deque[pb.NodeEvent](), asyncio.Event()
        self._over, self._users, self._idle = False, 0, asyncio.Event()
        self._idle.set()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @property
    def over(self) -> bool:
        """Whether the stream has ended, or is being ended."""
        return self._over

    def put(self, event: pb.NodeEvent) -> bool:
        """Queue ``event``; False once the stream is over."""
        if self._over or len(self._queue) >= MAX_QUEUED:
            return False
        self._queue.append(event)
        self._wake.set()
        return True

    def listen(self, handler: LinkClient) -> None:
        """Begin to hand events over and to write what is queued."""
        self._tasks = (asyncio.create_task(self._read(handler)), asyncio.create_task(self._write()))

    async def ended(self) -> None:
        """Wait for the end of the stream.

        Raises:
            PlatformError: the coordinator's reason, or that the connection was lost.
        """
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        self.end()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.close()
        for result in results:
            if isinstance(result, Exception):
                raise result

    def end(self) -> None:
        """Stop reading and writing; transfers on the channel go on."""
        self._over = True
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """End everything and close the channel."""
        self.end()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._call.cancel()
        await self.channel.close()

    @contextmanager
    def used(self) -> Iterator[Channel]:
        """Lend the channel to a transfer; ``idle`` waits for it."""
        self._users += 1
        self._idle.clear()
        try:
            yield self.channel
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    async def idle(self, at_most_s: float) -> None:
        """Wait until no transfer uses the channel, for ``at_most_s`` seconds; the stream itself is half-closed."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.done_writing()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._idle.wait()

    async def _read(self, handler: LinkClient) -> None:
        try:
            while isinstance(event := await self._call.read(), pb.CoordinatorEvent):
                if event.WhichOneof("event") == "farewell":
                    raise farewell_error(event.farewell)
                try:
                    await handler.on_event(event)
                except PlatformError as error:  # one event that cannot be served does not end the link
                    _log.warning("event_refused", code=error.code, detail=error.detail)
        except grpc.aio.AioRpcError as error:
            raise translated(error) from error
        raise LeaseLost("the coordinator ended the stream")

    async def _write(self) -> None:
        while True:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
            event = self._queue.popleft()
            try:
                await self._call.write(event)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await asyncio.Event().wait()  # the reader hears the same, with the reason, and ends us both


def farewell_error(farewell: pb.Farewell) -> PlatformError:
    """Return the error a farewell stands for; codes we do not know are refusals."""
    return _FAREWELLS.get(farewell.code, PolicyDenied)(farewell.message, code=farewell.code)


async def _status(call: Any) -> PlatformError:  # noqa: ANN401 - grpc is untyped
    return error_of(await call.code(), await call.details(), await call.trailing_metadata())
