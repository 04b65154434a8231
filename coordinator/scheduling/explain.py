"""Why each waiting ask waits, and why each idle node is idle."""

from __future__ import annotations

from common.ids import NodeId
from coordinator.scheduling.decide import decide
from coordinator.scheduling.records import Ask, State, Wait


def why(state: State, now_ms: int) -> dict[str, Wait]:
    """Return a reason for every ask that still waits after a decision now."""
    found = {one.ask: one for one in decide(state, now_ms) if isinstance(one, Wait)}
    return {ask.id: found.get(ask.id) or _reason(state, ask) for ask in state.asks}


def idle(state: State, now_ms: int) -> dict[NodeId, str]:
    """Return every node on which nothing runs, with the reason."""
    busy = {lease.node for lease in state.leases if lease.until_ms > now_ms}
    word = "nothing that waits could use it now" if state.asks else "nothing waits"
    return {node.id: word for node in state.nodes if node.id not in busy}


def _reason(state: State, ask: Ask) -> Wait:
    able = [
        node
        for node in state.nodes
        if (ask.candidates is None or node.id in ask.candidates)
        and ask.labels <= node.labels
        and node.slots
    ]
    if len(able) < ask.m:
        return Wait(ask.id, "never", f"needs {ask.m} nodes, {len(able)} that are there could serve it")
    return Wait(ask.id, "no_capacity", f"{ask.m} of {len(able)} nodes are not free together yet")
