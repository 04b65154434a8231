"""Capacity planning: how the real queue does, and how many GPUs a target would take."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Query

from coordinator.api import schemas_capacity as s
from coordinator.api.caller import Authenticated
from coordinator.api.resources import SYSTEM
from coordinator.api.routes.parts import router
from coordinator.capacity.outlook import Target
from coordinator.services.capacity import Question, answer, seen

ROUTER = router("capacity")


@ROUTER.get("/capacity", operation_id="capacity_get")
async def get(caller: Authenticated, query: Annotated[s.CapacityQuery, Query()]) -> s.CapacityOut:
    """Return what the pool gives the queue, by formula and simulated, and the GPUs that a target needs."""
    caller.require("capacity::read", SYSTEM)
    behind = caller.services
    question = Question(
        Target(query.wait_s, query.share), query.window_s, query.accelerators, query.gpus, query.gang,
        query.arrivals_per_s, query.service_s, query.ca2, query.cs2, query.seed,
    )  # fmt: skip
    found = await seen(behind.store, behind.link.connected(), behind.clock.now(), question)
    return s.CapacityOut.model_validate(await asyncio.to_thread(answer, question, found))
