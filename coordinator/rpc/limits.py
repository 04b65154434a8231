"""Every limit of the node link that another could push on, with its default and unit."""

from __future__ import annotations

from dataclasses import dataclass

from common.units import GIB, KIB, MIB, Bytes, Seconds


@dataclass(frozen=True)
class LinkLimits:
    """Passed in once; tests pass smaller ones."""

    keepalive_s: Seconds = Seconds(15)  # an idle connection is pinged; a dead peer is noticed within this …
    keepalive_timeout_s: Seconds = Seconds(15)  # … and this; a slow link's full buffers delay the answer
    handshake_s: Seconds = Seconds(15)  # TLS must be done by then: half-open sockets are cut
    hello_s: Seconds = Seconds(10)  # the first event on Connect
    stall_s: Seconds = Seconds(60)  # no chunk in or out for so long ends a transfer
    min_rate: Bytes = Bytes(2 * KIB)  # bytes a second, averaged over a transfer, once `stall_s` has passed
    takeover_s: Seconds = Seconds(3)  # a second upload of the same update cuts the first if that was silent so long
    farewell_s: Seconds = Seconds(1)  # to write the last event of a stream
    sweep_s: Seconds = Seconds(1)  # how often open streams are checked for expired certificates
    partial_s: Seconds = Seconds(86400)  # an update left half-way is kept so long
    grace_s: Seconds = Seconds(2)  # running calls may end by themselves when the server stops
    event_bytes: Bytes = Bytes(4 * MIB)  # one event
    queued_events: int = 10_000  # to a node that does not read
    log_chars: int = 64 * KIB  # of one LogChunk
    transfers: int = 16  # at once, a node
    calls: int = 64  # at once, a connection
    update_bytes: Bytes = Bytes(8 * GIB)
    spool_bytes: Bytes = Bytes(64 * GIB)  # all updates on disk
    recycled_bytes: Bytes = Bytes(2 * GIB)  # spool files kept to be overwritten
