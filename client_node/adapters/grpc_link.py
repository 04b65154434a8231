"""The agent's connection to its coordinator: keeps one event stream up for ever.

Each try is a fresh channel, so that pauses, diagnosis and credentials are ours to decide.  A renewed certificate is
taken over without a gap: the new stream is up before the old one ends, and transfers that run finish on the old
connection or resume on the new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc.aio

from client_node.adapters.diagnosis import diagnose
from client_node.adapters.grpc_channel import Channel, LinkOptions, translated
from client_node.adapters.grpc_session import Session, open_session
from client_node.adapters.grpc_transfer import Transfers, cancelled_by_caller
from client_node.ports.link import LinkClient
from client_node.services.credentials import Credentials
from common.clock import Clock
from common.errors import LeaseLost, PlatformError, PolicyDenied, Unauthenticated, Unreachable, VersionMismatch
from common.wire import hansa_node_pb2 as pb
from common.wire.memory import keep_chunks

_FINAL = (PolicyDenied, Unauthenticated, VersionMismatch)  # only a person can mend these
_DRAIN_S = 600.0  # transfers that run on a replaced connection may end by themselves


class GrpcLink:
    """Implements ``client_node.ports.link.Link``."""

    def __init__(
        self,
        load: Callable[[], Credentials],
        address: str,
        clock: Clock,
        options: LinkOptions | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """Connect to ``address`` ("host:port") with what ``load`` returns, read anew for each connection."""
        self._load, self._address, self._clock = load, address, clock
        self._options, self._chance = options or LinkOptions(), chance or random.Random()  # noqa: S311 - jitter
        self._session: Session | None = None
        self._welcomed: float | None = None  # when the present try was first welcomed
        self._up = asyncio.Condition()
        self._wanted_anew, self._closed = asyncio.Event(), asyncio.Event()
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="link")
        self._transfers = Transfers(self._channel, self._lost, self._pool, self._options, self._chance)
        self._draining: set[asyncio.Task[None]] = set()

    async def run(self, handler: LinkClient) -> None:
        """Keep the event stream up until cancelled or closed."""
        keep_chunks()
        pauses = 0
        try:
            while not self._closed.is_set():
                self._welcomed = None
                try:
                    await self._once(handler)
                    refused, why = False, "the connection ended"
                except PlatformError as error:
                    refused, why = isinstance(error, _FINAL) or error.code == "superseded", await self._explain(error)
                if self._closed.is_set():
                    return
                pauses = 0 if self._settled() else pauses + 1
                await self._pause(handler, pauses, why, refused=refused)
        finally:
            await self._drop()

    def send(self, event: pb.NodeEvent) -> bool:
        """Queue ``event``; False when there is no live connection."""
        return self._session is not None and self._session.put(event)

    async def download(
        self, ref: pb.ContentRef, target: Path, *, job: str = "", model: str = "", over: Path | None = None
    ) -> None:
        """Fetch ``ref`` to ``target``; see the port."""
        request = pb.DownloadRequest(digest=ref.digest, job=job, model=model)
        await self._transfers.download(request, ref.size, target, over)

    async def upload(
        self, task: str, path: Path, digest: str, size: int, *, last: asyncio.Event | None = None
    ) -> pb.UploadResult:
        """Send an update; see the port."""
        return await self._transfers.upload(pb.UploadKey(task=task, digest=digest, size=size), path, last)

    async def renew(self, csr: bytes) -> pb.RenewReply:
        """Ask for a new certificate; see the port."""
        session = self._live()
        if session is None:
            raise Unreachable("not connected to the coordinator")
        try:
            with session.used() as channel:
                reply: pb.RenewReply = await channel.renew(pb.RenewRequest(csr=csr), timeout=self._options.call_s)
        except grpc.aio.AioRpcError as error:
            raise translated(error) from error
        except asyncio.CancelledError:
            if cancelled_by_caller():
                raise
            raise Unreachable("the connection was closed meanwhile") from None
        return reply

    async def reconnect(self) -> None:
        """Open the next connection with the credentials as they are now, then let go of the present one."""
        self._wanted_anew.set()

    async def close(self) -> None:
        """End the stream and ``run``."""
        self._closed.set()
        self._wanted_anew.set()
        if self._session is not None:
            self._session.end()

    async def _once(self, handler: LinkClient) -> None:
        """Connect, then follow the stream, and its successors, until one ends."""
        handler.on_state("connecting", self._address)
        self._wanted_anew.clear()
        await self._take_over(await self._open(handler), handler)
        while True:
            session = self._session
            assert session is not None  # noqa: S101 - set by _take_over
            ended = asyncio.ensure_future(session.ended())
            anew = asyncio.ensure_future(self._wanted_anew.wait())
            try:
                await asyncio.wait({ended, anew}, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    self._session = None
                    ended.result()
                    return
            finally:
                ended.cancel()
                anew.cancel()
            self._wanted_anew.clear()
            if self._closed.is_set():
                return
            with contextlib.suppress(PlatformError):  # the present connection is good until it ends by itself
                await self._take_over(await self._open(handler), handler)

    async def _open(self, handler: LinkClient) -> Session:
        loop = asyncio.get_running_loop()
        mine = await loop.run_in_executor(self._pool, self._load)
        channel = Channel(self._address, mine, self._options)
        try:
            async with asyncio.timeout(self._options.connect_s):
                return await open_session(channel, handler, self._clock)
        except TimeoutError:
            await channel.close()
            raise Unreachable(f"{self._address} did not answer within {self._options.connect_s:g} s") from None
        except BaseException:
            await channel.close()
            raise

    async def _take_over(self, session: Session, handler: LinkClient) -> None:
        older = self._session
        self._welcomed = self._welcomed or self._clock.monotonic()
        async with self._up:
            self._session = session
            self._up.notify_all()
        session.listen(handler)
        handler.on_state("connected", session.greeting)
        if older is not None:
            older.end()
            self._retire(older)

    def _retire(self, older: Session) -> None:
        """Close a replaced connection once its transfers are done."""

        async def drain() -> None:
            await older.idle(_DRAIN_S)
            await older.close()

        task = asyncio.create_task(drain())
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _channel(self) -> Session:
        async with self._up:
            await self._up.wait_for(lambda: self._live() is not None or self._closed.is_set())
        session = self._live()
        if session is None:
            raise LeaseLost("the link is closed")
        return session

    def _live(self) -> Session | None:
        return None if self._session is None or self._session.over else self._session

    def _lost(self, session: Session) -> bool:
        """Say whether ``session`` is no longer the live one."""
        return session.over or self._session is not session

    def _settled(self) -> bool:
        """Say whether we were welcomed and stayed; the time a connection took to fail is no such time."""
        held = self._clock.monotonic() - self._welcomed if self._welcomed is not None else 0.0
        return held > self._options.settled_s

    async def _pause(self, handler: LinkClient, pauses: int, why: str, *, refused: bool) -> None:
        options = self._options
        longest = (
            options.refused_pause_s
            if refused
            else min(options.longest_pause_s, options.first_pause_s * 2 ** min(pauses, 16))
        )
        pause = longest * self._chance.uniform(0.5, 1.0)
        handler.on_state("refused" if refused else "waiting", f"{why}; next try in {pause:.1f} s")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wanted_anew.wait()

    async def _explain(self, error: PlatformError) -> str:
        if isinstance(error, Unreachable):
            loop = asyncio.get_running_loop()
            with contextlib.suppress(PlatformError):
                mine = await loop.run_in_executor(self._pool, self._load)
                found = await loop.run_in_executor(self._pool, diagnose, self._address, mine, self._clock)
                return found or error.detail
        return f"{error.detail}; {error.next_step}" if error.next_step else error.detail

    async def _drop(self) -> None:
        session, self._session = self._session, None
        closing: list[Any] = [*self._draining]
        for task in closing:
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)
        if session is not None:
            await session.close()
        self._closed.set()
        async with self._up:
            self._up.notify_all()
        self._pool.shutdown(wait=False)
