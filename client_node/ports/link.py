"""The agent's one connection to its coordinator, as the agent sees it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

from common.wire import hansa_node_pb2 as pb


class LinkClient(Protocol):
    """What the agent gives to the link.  All three are called on the event loop.

    ``on_event`` must return fast: events are handed over in order, one after the other.
    """

    async def hello(self) -> pb.Hello:
        """Return what to say first on a new connection; the link fills protocol, release and node_time."""
        ...

    async def on_event(self, event: pb.CoordinatorEvent) -> None:
        """Take one event of the coordinator (Welcome first, on each connection)."""
        ...

    def on_state(self, state: str, detail: str) -> None:
        """Hear where the link stands.

        ``state`` is "connecting", "connected", "waiting" (to try again; ``detail`` is the diagnosis and the next try)
        or "refused" (revoked, quarantined, superseded, version: it still tries, seldom).
        """
        ...


class Link(Protocol):
    """Events both ways and files both ways.

    Guarantees: (1) ``run`` returns only when cancelled or closed: it connects for ever, with jittered back-off;
    (2) what ``send`` returned True for was queued on a live connection, which is no proof of arrival: state that
    matters is told again in the next Hello; (3) ``download`` leaves the whole verified file at ``target`` or nothing
    (a partial ``target.part`` stays and is resumed); (4) ``upload`` sends no byte twice that the coordinator says it
    holds, and may be repeated at will.
    """

    async def run(self, handler: LinkClient) -> None:
        """Keep the event stream up until cancelled."""
        ...

    def send(self, event: pb.NodeEvent) -> bool:
        """Queue ``event``; False when there is no live connection (the event is dropped)."""
        ...

    async def download(
        self, ref: pb.ContentRef, target: Path, *, job: str = "", model: str = "", over: Path | None = None
    ) -> None:
        """Fetch ``ref`` to ``target``; waits for the connection and resumes across disconnects.

        ``over`` names a file on the same file system, if there is one, that is used up: its pages are written again.

        Raises:
            NotFound: the coordinator offers no such content to this node.
            BadSignature: what came has another digest, twice.
            PolicyDenied, Unauthenticated: this node is revoked or quarantined, its certificate has expired.
            QuotaExceeded: this node's disk is full. LeaseLost: the link is closed.
        """
        ...

    async def upload(
        self, task: str, path: Path, digest: str, size: int, *, last: asyncio.Event | None = None
    ) -> pb.UploadResult:
        """Send the update in ``path``; asks the offset first, resumes, and retries across disconnects.

        The last byte leaves only once ``last`` is set.

        Returns the coordinator's verdict; ``code`` "done" with accepted = True when it needs nothing more.

        Raises:
            NotFound: no such task for this node. QuotaExceeded: it is larger than allowed.
            PolicyDenied, Unauthenticated: this node is revoked or quarantined, its certificate has expired.
            BadSignature: the file is not what ``digest`` names. LeaseLost: the link is closed.
        """
        ...

    async def renew(self, csr: bytes) -> pb.RenewReply:
        """Ask for a new certificate with the present one.

        Raises:
            Unreachable: not connected. PolicyDenied: revoked or quarantined. BadInput: the request is malformed.
        """
        ...

    async def reconnect(self) -> None:
        """Read the credentials anew and open the next connection with them; running transfers resume."""
        ...

    async def close(self) -> None:
        """End the stream and ``run``."""
        ...
