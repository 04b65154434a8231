"""How long an agent waits before it tries its coordinator again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.units import Seconds
from tests.integration.link_kit import FAST, Agent, Kit, eventually, open_kit

pytestmark = pytest.mark.integration


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = await open_kit(tmp_path)
    yield made
    await made.stop()


class HeldClock(SystemClock):
    """The machine's clock, whose monotonic reading moves only when told."""

    held = 0.0

    def monotonic(self) -> float:
        return self.held


async def test_a_connection_that_held_for_a_moment_starts_the_pauses_anew(kit: Kit) -> None:
    place, clock = await kit.node("a"), HeldClock()
    options = replace(FAST, first_pause_s=Seconds(0.02), longest_pause_s=Seconds(10))

    async def cut(times: int) -> float:
        """Cut the agent's connection number ``times``; return the pause that it announces."""
        await agent.connected(times)
        await eventually(kit.hub.connections)
        kit.hub.connections()[0].end("stopping", "a restart")
        await agent.connected(times + 1)
        said = [detail for state, detail in agent.states if state == "waiting"]
        return float(said[-1].split("next try in ")[1].removesuffix(" s"))

    async with Agent(place, kit.address, options=options, clock=clock) as agent:
        pauses = [await cut(times) for times in range(1, 7)]
        assert 0.6 <= pauses[-1] <= 1.3, "doubled six times, and jittered down to half"
        clock.held += 1.5
        assert await cut(7) == 0.0
