"""A coordinator that only writes: says on stdout which entry the store has acknowledged, until it is killed."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace

from coordinator.adapters.sql import make_store
from coordinator.ports.store import Tx
from tests.contract import records as r


async def main(url: str) -> None:
    store = make_store(url)
    await store.acquire_epoch()
    number = 0
    while True:
        number += 1

        def step(tx: Tx, number: int = number) -> int:
            tx.jobs.put(replace(r.job(), round=number))
            tx.jobs.put_exchange(r.exchange(number))
            return tx.jobs.log(r.job().id, float(number), "round_aggregated", {"round": number}).seq

        os.write(1, b"%d\n" % await store.write(step))


asyncio.run(main(sys.argv[1]))
