"""Long answers: event streams that can be resumed, and files in pieces."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from common.clock import Clock
from common.errors import NotFound
from common.units import CHUNK
from coordinator.api.schemas_jobs import JobEventOut
from coordinator.api.settings import ApiSettings

EVENT_STREAM = "text/event-stream"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def event_stream(
    entries: AsyncIterator[JobEventOut], settings: ApiSettings, clock: Clock
) -> AsyncIterator[bytes]:
    """Yield ``entries`` as server-sent events: ``id`` is the sequence number, comments keep a silent line open.

    The stream ends with the entries, or after ``settings.stream`` seconds; a reader that wants more resumes with
    ``Last-Event-ID`` and is judged anew.
    """
    ends = clock.monotonic() + settings.stream
    following: asyncio.Task[JobEventOut] | None = None
    try:
        yield b"retry: 1000\n\n"
        while clock.monotonic() < ends:
            following = following or asyncio.ensure_future(anext(entries))
            done, _ = await asyncio.wait({following}, timeout=settings.heartbeat)
            if not done:
                yield b": waiting\n\n"
                continue
            try:
                entry = following.result()
            except StopAsyncIteration:
                return
            following = None
            yield f"id: {entry.seq}\nevent: {entry.event}\ndata: {entry.model_dump_json()}\n\n".encode()
    finally:
        if following is not None:
            following.cancel()
            await asyncio.wait({following})
        close = getattr(entries, "aclose", None)
        if close is not None:
            await close()


async def file_response(path: Path, *, media_type: str, range_header: str | None, headers: dict[str, str]) -> Response:
    """Return the file, or the one part of it that ``range_header`` names.

    Raises:
        HTTPException: 416, the part lies outside the file.
    """
    file, size = await asyncio.to_thread(_open, path)
    try:
        start, end = byte_range(range_header, size)
    except HTTPException:
        file.close()
        raise
    headers = headers | {"Accept-Ranges": "bytes", "Content-Length": str(end - start)}
    status = 200
    if range_header is not None and (start, end) != (0, size):
        status, headers = 206, headers | {"Content-Range": f"bytes {start}-{end - 1}/{size}"}
    return StreamingResponse(_pieces(file, start, end), status, headers, media_type)


async def tail_response(path: Path, limit: int) -> Response:
    """Return the newest ``limit`` bytes of a text that may still grow; nothing if it is not there yet."""
    headers = {"Content-Disposition": "inline"}
    try:
        file, size = await asyncio.to_thread(_open, path)
    except NotFound:
        return Response(b"", 200, headers, "text/plain; charset=utf-8")
    start = max(0, size - limit)
    return StreamingResponse(_pieces(file, start, size), 200, headers, "text/plain; charset=utf-8")


def byte_range(header: str | None, size: int) -> tuple[int, int]:
    """Return the (start, end) that a Range header asks for; end is exclusive.

    RFC 9110 §14.2: a malformed or multiple range may be ignored, so it means the whole.

    Raises:
        HTTPException: 416, the range is well formed but outside.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or not (match[1] or match[2]):
        return 0, size
    if not match[1]:  # the last so many bytes
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return 0, size
    if start >= end:
        raise HTTPException(416, f"the object has {size} bytes", {"Content-Range": f"bytes */{size}"})
    return start, end


def _open(path: Path) -> tuple[BinaryIO, int]:
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound("no such object") from error
    return file, file.seek(0, 2)


async def _pieces(file: BinaryIO, start: int, end: int) -> AsyncIterator[bytes]:
    with file:
        file.seek(start)
        while start < end:
            piece = await asyncio.to_thread(file.read, min(CHUNK, end - start))
            if not piece:
                return
            start += len(piece)
            yield piece
