"""When each waiting ask is expected to start."""

from __future__ import annotations

from coordinator.scheduling.decide import decide
from coordinator.scheduling.records import State, Wait


def forecast(state: State, now_ms: int, horizon_ms: int) -> dict[str, int | None]:
    """Return when each ask is expected to start; None: not before ``now_ms + horizon_ms``."""
    kept = {one.ask: one.not_before_ms for one in decide(state, now_ms) if isinstance(one, Wait)}
    last = now_ms + horizon_ms
    return {ask.id: at if (at := kept.get(ask.id)) is not None and at <= last else None for ask in state.asks}
