"""How long the phases of a masked sum are waited for."""

from __future__ import annotations

import asyncio

from common.ids import NodeId
from coordinator.rounds.masked import MaskedAttempt, Phase
from coordinator.services.around import Around
from coordinator.services.updates import Exchange

STEP_S = 60.0  # for a step that is a message there and back


async def phase_over(around: Around, exchange: Exchange, attempt: MaskedAttempt, news: asyncio.Event) -> None:
    """Wait until the attempt's phase can end, or its time is over; who is away too long is lost to it.

    Args:
        around: Services.
        exchange: What is summed.
        attempt: Its attempt.
        news: Set whenever a member says something, comes or goes.
    """
    clock, grace = around.clock, around.settings.grace_s
    end = clock.monotonic() + _patience(exchange, attempt.phase, clock.monotonic())
    while not attempt.ready():
        now = clock.monotonic()
        away = around.presence.away(NodeId(node) for node in attempt.waiting())
        for node, (since, _) in away.items():
            if now >= since + grace:
                attempt.lose(node)
        if now >= end or attempt.ready():
            return
        wake = min([end, *(since + grace for since, _ in away.values() if since + grace > now)])
        news.clear()
        try:
            async with asyncio.timeout(max(wake - now, 0.001)):
                await news.wait()
        except TimeoutError:
            continue


def _patience(exchange: Exchange, phase: Phase, now: float) -> float:
    """Return how long a phase may take: uploads as long as the round, the last two until the round is lost."""
    left = max(exchange.round.terms.deadline - now, 0.0)
    match phase:
        case Phase.MASKING:
            return max(left, STEP_S)
        case Phase.SIGNING | Phase.OPENING:
            return left + exchange.job.spec.wait_s + STEP_S
        case _:
            return STEP_S
