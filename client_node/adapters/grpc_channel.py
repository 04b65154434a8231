"""One gRPC channel to the coordinator: credentials, keepalive, and the calls as plain functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

import common.wire.tls  # noqa: F401 - sets gRPC's cipher suites before the first channel is made
from client_node.services.credentials import Credentials
from common.errors import PlatformError
from common.units import MIB, WINDOW, Seconds
from common.wire import hansa_node_pb2 as pb
from common.wire import methods
from common.wire.status import error_of


@dataclass(frozen=True)
class LinkOptions:
    """Time-outs and pauses of the link, in seconds."""

    keepalive_s: Seconds = Seconds(15)
    keepalive_timeout_s: Seconds = Seconds(15)  # a dead peer is noticed within the sum of the two
    connect_s: Seconds = Seconds(15)  # until Welcome
    call_s: Seconds = Seconds(30)  # a unary call
    first_pause_s: Seconds = Seconds(0.25)  # before the second try, doubled until …
    longest_pause_s: Seconds = Seconds(10)
    refused_pause_s: Seconds = Seconds(60)  # after a refusal that only a person can mend
    settled_s: Seconds = Seconds(1)  # a welcomed connection that held so long starts the pauses anew


class Channel:
    """A channel and its five methods; closed once by whoever opened it."""

    def __init__(self, address: str, mine: Credentials, options: LinkOptions) -> None:
        """Prepare to connect to ``address``; nothing is sent before the first call."""
        credentials = grpc.ssl_channel_credentials(mine.ca, mine.key, mine.certificate)
        self._channel = grpc.aio.secure_channel(address, credentials, options=_options(options))
        channel, raw = self._channel, methods.raw
        self.connect = channel.stream_stream(
            methods.CONNECT, pb.NodeEvent.SerializeToString, pb.CoordinatorEvent.FromString
        )
        self.download = channel.unary_stream(methods.DOWNLOAD, pb.DownloadRequest.SerializeToString, raw)
        self.upload = channel.stream_unary(methods.UPLOAD, raw, pb.UploadResult.FromString)
        self.upload_offset = channel.unary_unary(
            methods.UPLOAD_OFFSET, pb.UploadKey.SerializeToString, pb.UploadOffset.FromString
        )
        self.renew = channel.unary_unary(methods.RENEW, pb.RenewRequest.SerializeToString, pb.RenewReply.FromString)

    async def close(self) -> None:
        """End the connection and every call on it."""
        await self._channel.close()


def translated(error: grpc.aio.AioRpcError) -> PlatformError:
    """Return the platform's error for a failed call."""
    trailers: Any = error.trailing_metadata()
    return error_of(error.code(), error.details(), trailers)


def _options(options: LinkOptions) -> list[tuple[str, int]]:
    return [
        ("grpc.use_local_subchannel_pool", 1),  # new credentials mean a new connection
        ("grpc.enable_retries", 0),  # we retry, with a diagnosis
        ("grpc.max_receive_message_length", 8 * MIB),
        ("grpc.keepalive_time_ms", int(options.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(options.keepalive_timeout_s * 1000)),
        ("grpc.http2.ping_timeout_ms", int(options.keepalive_timeout_s * 1000)),  # or a lost ping is waited for 60 s
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", WINDOW),
    ]
