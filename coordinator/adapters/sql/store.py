"""The ``Store`` over SQLAlchemy: transactions in the store's own threads, each write under the fencing epoch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import sqlalchemy as sa

from common.errors import BadInput, LeaseLost, Unreachable
from coordinator.adapters.sql.engines import READERS, Engines, fault, open_engines, translate
from coordinator.adapters.sql.migrate import upgrade
from coordinator.adapters.sql.tables import FENCE
from coordinator.adapters.sql.tx import SqlTx
from coordinator.ports.store import Tx

T = TypeVar("T")
PATIENCE_S = 30.0  # how long a transaction is tried again while others hold locks
_PAUSES_S = (0.002, 0.01, 0.05, 0.2, 0.5)

# FOR SHARE: a coordinator that takes the next epoch waits for the writes under way, and those after it see its number.
_EPOCH = sa.select(FENCE.c.epoch).where(FENCE.c.id == 1).with_for_update(read=True)
_NEXT_EPOCH = sa.update(FENCE).where(FENCE.c.id == 1).values(epoch=FENCE.c.epoch + 1).returning(FENCE.c.epoch)


def make_store(url: str, *, patience_s: float = PATIENCE_S) -> SqlStore:
    """Open the database, migrate it to this release's schema and return the store.

    Args:
        url: ``sqlite:///PATH``, a plain path, or ``postgresql://user@host/database``.
        patience_s: How long a transaction is tried again while others hold locks.

    Raises:
        BadInput: the address is of another kind. VersionMismatch: a newer release wrote the database.
        Unreachable: it does not answer. Corrupted: it is damaged or no database.
    """
    engines = open_engines(url)
    try:
        _patiently(engines, patience_s, lambda: upgrade(engines.writer))
    except BaseException:
        engines.dispose()
        raise
    return SqlStore(engines, patience_s)


class SqlStore:
    """A ``coordinator.ports.store.Store``; build it with ``make_store``."""

    def __init__(self, engines: Engines, patience_s: float) -> None:
        self._engines = engines
        self._patience_s = patience_s
        self._epoch: int | None = None
        # SQLite has one writer anyway; on PostgreSQL one writer keeps the order in which the services wrote.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a read transaction: one consistent snapshot."""
        return await self._submit(self._readers, lambda: self._run(self._engines.reader, work))

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a write transaction; it is on the disk when this returns.

        Cancelling the caller does not undo it: whether it was written must then be read back.

        Raises:
            LeaseLost: another coordinator has taken a newer epoch, or none was acquired here.
        """

        def fenced(tx: SqlTx, connection: sa.Connection) -> T:
            self._check_epoch(connection)
            return work(tx)

        return await self._submit(self._writer, lambda: self._run_raw(self._engines.writer, fenced))

    async def acquire_epoch(self) -> int:
        """Take the next fencing epoch for this process and return it."""

        def take(_: SqlTx, connection: sa.Connection) -> int:
            epoch: int = connection.execute(_NEXT_EPOCH).scalar_one()
            return epoch

        epoch = await self._submit(self._writer, lambda: self._run_raw(self._engines.writer, take))
        self._epoch = epoch
        return epoch

    async def close(self) -> None:
        """Wait for what runs, then release connections and threads."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        self._engines.dispose()

    async def _submit(self, threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        try:
            future = asyncio.get_running_loop().run_in_executor(threads, call)
        except RuntimeError as error:
            raise Unreachable("the store is closed") from error
        return await future

    def _check_epoch(self, connection: sa.Connection) -> None:
        if self._epoch is None:
            raise LeaseLost("this coordinator has taken no epoch yet: call acquire_epoch before the first write")
        current = connection.execute(_EPOCH).scalar_one()
        if current != self._epoch:
            raise LeaseLost(f"another coordinator took over: epoch {current} is newer than ours, {self._epoch}")

    def _run(self, engine: sa.Engine, work: Callable[[Tx], T]) -> T:
        return self._run_raw(engine, lambda tx, _: work(tx))

    def _run_raw(self, engine: sa.Engine, work: Callable[[SqlTx, sa.Connection], T]) -> T:
        return _patiently(self._engines, self._patience_s, lambda: _attempt(engine, work))


class _InDoubt(Exception):
    """The connection died during the commit: nobody can say whether it happened."""


def _attempt(engine: sa.Engine, work: Callable[[SqlTx, sa.Connection], T]) -> T:
    with engine.connect() as connection:
        transaction = connection.begin()
        try:
            result = work(SqlTx(connection), connection)
        except BaseException:
            transaction.rollback()
            raise
        try:
            transaction.commit()
        except sa.exc.DBAPIError as error:
            if fault(error) == "lost":
                raise _InDoubt from error
            transaction.rollback()
            raise
        return result


def _patiently(engines: Engines, patience_s: float, call: Callable[[], T]) -> T:
    """Call until it succeeds, fails for good, or ``patience_s`` of other people's locks have passed."""
    end = time.monotonic() + patience_s
    tries = 0
    while True:
        try:
            return call()
        except _InDoubt as error:
            raise Unreachable(f"the database {engines.name} was lost in a commit; read back what it holds") from error
        except OverflowError as error:
            raise BadInput("the database cannot hold this value: a whole number of more than 64 bits") from error
        except sa.exc.DBAPIError as error:
            # A lost connection is tried once more at once: the server may only have been restarted since.
            again = fault(error) == "busy" or (fault(error) == "lost" and tries == 0)
            if not again or time.monotonic() >= end:
                raise translate(error, engines.name) from error
        time.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
        tries += 1
