"""Ends of asyncio work: what must be finished is finished, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


async def to_its_end(work: Coroutine[None, None, T] | asyncio.Task[T]) -> T:
    """Await ``work``; a cancelled caller still waits for it, so that it is never left behind its back.

    Raises:
        CancelledError: the caller was cancelled, once or more; ``work`` is done all the same.
    """
    task = asyncio.ensure_future(work)
    interrupted = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            interrupted = True
    if interrupted and (task.cancelled() or task.exception() is None):
        raise asyncio.CancelledError
    return task.result()


async def stopped(work: asyncio.Task[None]) -> None:
    """Cancel ``work`` and wait until it has cleaned up."""
    work.cancel()
    await asyncio.wait({work})


async def dropped(work: asyncio.Task[None]) -> None:
    """Stop ``work``, whatever became of it."""
    await stopped(work)
    work.cancelled() or work.exception()  # nobody else asks
