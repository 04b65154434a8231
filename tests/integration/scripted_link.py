"""A coordinator in the test's hands: a ``Link`` that does as told, and the objects it offers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np

from client_node.ports.link import LinkClient
from common.errors import NotFound
from common.tensors.content import build_header
from common.wire import hansa_node_pb2 as pb


class ScriptedLink:
    """Keeps what the node sent; gives what the test put there."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.sent: list[pb.NodeEvent] = []
        self.uploads: dict[str, bytes] = {}
        self.downloads: list[str] = []
        self.wanted = True  # False: uploads answer "no such task"
        self.started = asyncio.Event()
        self._more = asyncio.Condition()
        self.client: LinkClient | None = None

    async def run(self, handler: LinkClient) -> None:
        self.client = handler
        handler.on_state("connected", "")
        self.started.set()
        await asyncio.Event().wait()

    def send(self, event: pb.NodeEvent) -> bool:
        self.sent.append(pb.NodeEvent.FromString(event.SerializeToString()))
        return True

    async def download(
        self, ref: pb.ContentRef, target: Path, *, job: str = "", model: str = "", over: Path | None = None
    ) -> None:
        self.downloads.append(ref.digest)
        if ref.digest not in self.objects:
            raise NotFound(f"nothing with digest {ref.digest[:12]} is offered")
        target.write_bytes(self.objects[ref.digest])

    async def upload(
        self, task: str, path: Path, digest: str, size: int, *, last: asyncio.Event | None = None
    ) -> pb.UploadResult:
        if not self.wanted:
            raise NotFound("no such task")
        if last is not None:
            await last.wait()
        data = path.read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (digest, size)
        self.uploads[task] = data
        return pb.UploadResult(accepted=True)

    async def renew(self, csr: bytes) -> pb.RenewReply:
        raise AssertionError("nothing here renews")

    async def reconnect(self) -> None: ...
    async def close(self) -> None: ...

    # ---- for the test ------------------------------------------------------------------------------------------------

    def put(self, data: bytes) -> pb.ContentRef:
        """Offer an object."""
        digest = hashlib.sha256(data).hexdigest()
        self.objects[digest] = data
        return pb.ContentRef(digest=digest, size=len(data))

    async def tell(self, **event: Any) -> None:
        """Send one event to the node."""
        await self.started.wait()
        assert self.client is not None
        await self.client.on_event(pb.CoordinatorEvent(**event))

    async def heard(self, what: Any, seconds: float = 60.0) -> Any:
        """Wait until ``what(event)`` is true of something the node sent; return its value."""
        seen = 0
        async with asyncio.timeout(seconds):
            while True:
                while seen < len(self.sent):
                    if value := what(self.sent[seen]):
                        return value
                    seen += 1
                await asyncio.sleep(0.005)

    async def status(self, task: str, *states: Any) -> pb.TaskStatus:
        """Wait for a status of ``task`` in one of ``states``."""
        return await self.heard(
            lambda e: e.task if e.HasField("task") and e.task.task == task and e.task.state in states else None
        )

    def said(self, task: str) -> list[int]:
        """Return the states the node has told of a task, in order."""
        return [e.task.state for e in self.sent if e.HasField("task") and e.task.task == task]


def instruction(values: list[float], **config: Any) -> bytes:
    """Return an object with one array record and one config record."""
    data = np.asarray(values, np.float32).tobytes()
    header = build_header(
        [("arrays", "array"), ("config", "config")],
        [("arrays", "w", "F32", (len(values),), len(data))],
        {},
        {"config": config},
    )
    return header + data


def read_object(data: bytes) -> tuple[dict[str, list[float]], dict[str, dict[str, Any]]]:
    """Return an object's float32 tensors and its metric records; written from the format's description alone."""
    (length,) = struct.unpack("<Q", data[:8])
    table = json.loads(data[8 : 8 + length])
    records = json.loads(table.pop("__metadata__")["hansa"])
    records = records["records"] if isinstance(records, dict) else records
    tensors = {
        name: np.frombuffer(data[8 + length :][slice(*entry["data_offsets"])], np.float32).tolist()
        for name, entry in table.items()
    }
    return tensors, {name: values for name, kind, values in records if kind == "metric"}


def copy_app(source: Path, target: Path) -> Path:
    """Return a copy of an app's directory."""
    return Path(shutil.copytree(source, target))
