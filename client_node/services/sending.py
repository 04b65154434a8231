"""An update on its way: sent until the coordinator has it, or does not want it now."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from client_node.ports.link import Link
from common.errors import LeaseLost, NotFound, PolicyDenied, Unreachable
from common.failpoints import failpoint

_log = structlog.get_logger()


async def send_update(
    link: Link, task: str, path: Path, digest: str, size: int, last: asyncio.Event | None = None
) -> None:
    """Send the update in ``path``; it stays kept all the same, and is sent again when its task is offered again.

    Args:
        link: The way.
        task: The task it is of.
        path: Its file.
        digest: SHA-256 of the file.
        size: Bytes of the file.
        last: Set when it is durable here: the last byte waits for that.
    """
    try:
        result = await link.upload(task, path, digest, size, last=last)
    except (NotFound, PolicyDenied, LeaseLost, Unreachable) as error:
        _log.info("upload_not_wanted_now", task=task, detail=error.detail)
        return
    failpoint("uploaded_before_ack")
    if not result.accepted:
        _log.warning("update_dropped", task=task, code=result.code, message=result.message)
