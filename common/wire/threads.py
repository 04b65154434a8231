"""Blocking work of a transfer, off the event loop without a hop per chunk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple

GATHER = 8  # chunks that may wait while the thread works
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def begin(pool: Executor, act: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
    """Start ``act`` in ``pool``."""
    future = asyncio.get_running_loop().run_in_executor(pool, act, *args)
    future.add_done_callback(_seen)
    return future


async def settled(future: asyncio.Future[T]) -> T:
    """Return the result of ``future`` without cancelling it when the waiter is cancelled.

    A thread cannot be cancelled: a future that says it was would hide that it still works on the file.
    """
    await asyncio.wait({future})
    return future.result()


async def in_thread(pool: Executor, act: Callable[[*Ts], T], *args: *Ts) -> T:
    """Return what ``act`` returns, run by ``pool``."""
    return await settled(begin(pool, act, *args))


class ChunkWriter:
    """Hands chunks to a blocking ``act``, in order, one batch at a time; while it works, the next ones gather."""

    def __init__(self, pool: Executor, act: Callable[[Sequence[bytes]], None]) -> None:
        """Call ``act`` in ``pool``."""
        self._pool, self._act = pool, act
        self._gathered: list[bytes] = []
        self._running: asyncio.Future[None] | None = None
        self._error: BaseException | None = None

    async def put(self, chunk: bytes) -> None:
        """Take one chunk; wait while too many have gathered.

        Raises:
            Exception: what ``act`` raised on an earlier batch.
        """
        self._gathered.append(chunk)
        if self._running is None:
            self._start()
        elif len(self._gathered) >= GATHER:
            await asyncio.wait({self._running})
        if self._error is not None:
            raise self._error

    async def flush(self) -> None:
        """Wait until every chunk has been handed over.

        Raises:
            Exception: what ``act`` raised.
        """
        while self._running is not None:
            await asyncio.wait({self._running})
        if self._error is not None:
            raise self._error

    def _start(self) -> None:
        batch, self._gathered = self._gathered, []
        self._running = begin(self._pool, self._act, batch)
        self._running.add_done_callback(self._ended)

    def _ended(self, future: asyncio.Future[None]) -> None:
        self._running, self._error = None, future.exception()
        if self._error is None and self._gathered:
            self._start()


def _seen(future: asyncio.Future[T]) -> None:
    """Look at the outcome: whoever began the work may have been cancelled and never ask."""
    if not future.cancelled():
        future.exception()
