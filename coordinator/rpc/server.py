"""The gRPC server of the node link: every method goes through one door.

``_guarded`` wraps each of them: certificate, expiry and standing are checked on every call, errors become statuses,
and what runs can be cut when its node is shut out.  A method cannot be registered without it.  What the node then asks
for is judged by the policies, through the gate.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import structlog

import common.wire.tls  # noqa: F401 - sets gRPC's cipher suites before the first server is made
from common.clock import Clock
from common.errors import PlatformError, QuotaExceeded, Unreachable
from common.units import CHUNK, WINDOW
from common.wire import hansa_node_pb2 as pb
from common.wire import methods
from common.wire.memory import keep_chunks
from common.wire.status import MAX_TEXT, status_of, trailers_of
from common.wire.threads import in_thread
from coordinator.ports.link import LinkEvents
from coordinator.rpc.connect import EventStream
from coordinator.rpc.download import Downloads
from coordinator.rpc.gate import Gate
from coordinator.rpc.hub import Hub
from coordinator.rpc.limits import LinkLimits
from coordinator.rpc.peer import Peer, check_expiry
from coordinator.rpc.spool import Spool
from coordinator.rpc.upload import Uploads, header_of

_log = structlog.get_logger()
_Method = Callable[[Peer, Any, Any], Awaitable[Any]]
IO_THREADS = 8


@dataclass(frozen=True)
class ServerTls:
    """The server's own credentials and the CA whose nodes may call, all PEM."""

    key: bytes = field(repr=False)
    certificate: bytes
    ca: bytes


class LinkServer:
    """Listens for nodes; made once, by the composition root."""

    def __init__(
        self,
        hub: Hub,
        gate: Gate,
        events: LinkEvents,
        spool: Spool,
        tls: ServerTls,
        clock: Clock,
        limits: LinkLimits | None = None,
    ) -> None:
        """Serve ``events`` to the nodes that ``gate`` admits."""
        self._hub, self._gate, self._clock, self._tls = hub, gate, clock, tls
        self._limits, self._spool = limits or LinkLimits(), spool
        self._pool = ThreadPoolExecutor(IO_THREADS, thread_name_prefix="link")
        self._stream = EventStream(hub, events, clock, self._limits)
        self._uploads = Uploads(events, gate, spool, self._pool, self._limits)
        self._downloads = Downloads(events, gate, self._pool, self._limits)
        self._server: grpc.aio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, address: str) -> int:
        """Listen on ``address`` ("host:port", port 0 = any) and return the port.

        Raises:
            Unreachable: the address cannot be bound.
        """
        keep_chunks()
        server = grpc.aio.server(options=_options(self._limits))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(methods.SERVICE, self._handlers()),))
        credentials = grpc.ssl_server_credentials(
            [(self._tls.key, self._tls.certificate)], self._tls.ca, require_client_auth=True
        )
        try:
            port: int = server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise Unreachable(f"the node link cannot listen on {address}: {error}", code="cannot_bind") from error
        await server.start()
        self._server = server
        self._sweeper = asyncio.create_task(self._sweep())
        _log.info("node_link_opened", port=port)
        return port

    async def stop(self) -> None:
        """Take no new call, give running ones a moment, end the rest."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        for connection in self._hub.connections():
            connection.end("stopping", "the coordinator is stopping")
        if self._server is not None:
            await self._server.stop(self._limits.grace_s)
        self._pool.shutdown(wait=True)

    def _handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        raw = methods.raw
        return {
            "Connect": grpc.stream_stream_rpc_method_handler(
                self._guarded(self._connect, counted=False),
                pb.NodeEvent.FromString,
                pb.CoordinatorEvent.SerializeToString,
            ),
            "Download": grpc.unary_stream_rpc_method_handler(
                self._guarded(self._downloads.send), pb.DownloadRequest.FromString, raw
            ),
            "Upload": grpc.stream_unary_rpc_method_handler(
                self._guarded(self._upload), raw, pb.UploadResult.SerializeToString
            ),
            "UploadOffset": grpc.unary_unary_rpc_method_handler(
                self._guarded(self._offset), pb.UploadKey.FromString, pb.UploadOffset.SerializeToString
            ),
            "Renew": grpc.unary_unary_rpc_method_handler(
                self._guarded(self._renew), pb.RenewRequest.FromString, pb.RenewReply.SerializeToString
            ),
        }

    def _guarded(
        self, method: _Method, *, counted: bool = True
    ) -> Callable[[Any, grpc.aio.ServicerContext], Coroutine[Any, Any, Any]]:
        async def call(request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: ANN401
            try:
                peer = await self._gate.admit(context)
                if counted:
                    return await self._cuttable(peer, method(peer, request, context))
                return await method(peer, request, context)
            except PlatformError as error:
                _log.info("node_call_refused", code=error.code, detail=error.detail, peer=context.peer())
                await context.abort(status_of(error), error.detail[:MAX_TEXT], trailers_of(error))
            except grpc.aio.AbortError:
                raise
            except Exception:  # noqa: BLE001 - the outermost guard of a call: the node must not read our internals
                if context.done():  # the node hung up while we wrote
                    return None
                _log.exception("node_call_failed", peer=context.peer())
                await context.abort(grpc.StatusCode.INTERNAL, "internal error; the coordinator's log has more")

        return call

    async def _cuttable(self, peer: Peer, work: Awaitable[Any]) -> Any:  # noqa: ANN401
        """Await ``work``, counted against the node and ended when the hub shuts the node out."""
        task = asyncio.ensure_future(work)
        if self._hub.calls(peer.id) >= self._limits.transfers:
            task.cancel()
            raise QuotaExceeded(f"{self._limits.transfers} calls of this node run already", code="too_many_calls")
        self._hub.enter_call(peer.id, task)
        why: PlatformError | None = None
        try:
            await asyncio.wait({task})
        finally:
            why = self._hub.leave_call(peer.id, task)
            if not task.done():  # the node hung up: gRPC cancelled us
                task.cancel()
                await asyncio.wait({task})
                task.cancelled() or task.exception()  # nobody is left to tell
        if task.cancelled():
            raise why or Unreachable("a newer transfer of the same update took over", code="superseded")
        return task.result()

    async def _connect(self, peer: Peer, _requests: object, context: grpc.aio.ServicerContext) -> None:
        self._gate.connect(peer)

        async def admit() -> Peer:
            known = await self._gate.admit(context)
            self._gate.connect(known)
            return known

        await self._stream.serve(admit, context)

    async def _upload(
        self, peer: Peer, chunks: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> pb.UploadResult:
        return await self._uploads.receive(peer, header_of(context.invocation_metadata() or ()), chunks)

    async def _offset(self, peer: Peer, key: pb.UploadKey, _context: object) -> pb.UploadOffset:
        return await self._uploads.offset(peer, key)

    async def _renew(self, peer: Peer, request: pb.RenewRequest, _context: object) -> pb.RenewReply:
        certificate, until, generation = await self._gate.renew(peer, request.csr)
        return pb.RenewReply(certificate=certificate, until=until, generation=generation)

    async def _sweep(self) -> None:
        """Cut streams whose certificate has run out (TLS does not look again) and drop updates left half-way."""
        swept = self._clock.monotonic()
        while True:
            await asyncio.sleep(self._limits.sweep_s)
            for connection in self._hub.connections():
                try:
                    check_expiry(connection.peer.certificate, self._clock)
                except PlatformError as error:
                    self._hub.disconnect(connection.peer.id, error.code, error.detail)
            if self._clock.monotonic() - swept > self._limits.partial_s / 10:
                swept = self._clock.monotonic()
                await in_thread(self._pool, self._spool.sweep, self._clock.now() - self._limits.partial_s)


def _options(limits: LinkLimits) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # a second coordinator on the same port must fail, not share it
        ("grpc.max_receive_message_length", max(limits.event_bytes, CHUNK + 1024)),
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.max_concurrent_streams", limits.calls),
        ("grpc.server_handshake_timeout_ms", int(limits.handshake_s * 1000)),
        ("grpc.keepalive_time_ms", int(limits.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(limits.keepalive_timeout_s * 1000)),
        ("grpc.http2.ping_timeout_ms", int(limits.keepalive_timeout_s * 1000)),  # or a lost ping is waited for 60 s
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", int(limits.keepalive_s * 500)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
        ("grpc.http2.bdp_probe", 0),  # its growing windows buffer whole models
        ("grpc.http2.lookahead_bytes", WINDOW),
    ]
