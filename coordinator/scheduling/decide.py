"""The decision as a function of values: the state before, the decisions, the state after."""

from __future__ import annotations

from dataclasses import replace

from common.ids import NodeId
from coordinator.scheduling import usage
from coordinator.scheduling.passes import run
from coordinator.scheduling.records import Decision, Expire, Lease, Revoke, Start, State, Wait
from coordinator.scheduling.world import World


def decide(state: State, now_ms: int) -> tuple[Decision, ...]:
    """Return what to do now: leases that ran out, rounds that start, and the asks that nodes are kept for.

    The order in which ``state`` lists its parts does not matter.  What is not started waits; ``explain.why`` says why.
    """
    return run(World.of(state), now_ms)


def apply(state: State, decisions: tuple[Decision, ...], now_ms: int) -> State:
    """Return the state after ``decisions``: what was granted is a lease and charged, what ended is gone and settled."""
    use, origin_ms = usage.rebased(state.use, state.policy, state.origin_ms, now_ms, idle=True)
    asks = {ask.id: ask for ask in state.asks}
    leases = {(lease.ask, lease.node): lease for lease in state.leases}

    def end(lease: Lease, end_ms: int) -> None:
        nonlocal origin_ms
        del leases[lease.ask, lease.node]
        origin_ms = usage.first_origin(use, state.policy, origin_ms, lease.start_ms)
        usage.settle(use, state.policy, origin_ms, lease, end_ms)

    for decision in decisions:
        match decision:
            case Expire(lease):
                end(lease, lease.until_ms)
            case Revoke(lease, _):
                end(lease, now_ms)
            case Start(ask, granted):
                del asks[ask.id]
                for lease in granted:
                    leases[lease.ask, lease.node] = lease
                    origin_ms = usage.first_origin(use, state.policy, origin_ms, lease.start_ms)
                    usage.charge(use, state.policy, origin_ms, lease)
            case _:
                pass
    if any(not isinstance(decision, Wait) for decision in decisions):
        use, origin_ms = usage.rebased(use, state.policy, origin_ms, now_ms, idle=False)
    return replace(state, asks=tuple(asks.values()), leases=tuple(leases.values()), use=use, origin_ms=origin_ms)


def end_lease(state: State, ask_id: str, node: NodeId, now_ms: int) -> State:
    """Return the state after a lease ended before its time; nothing changes if there is none such."""
    ended = [lease for lease in state.leases if (lease.ask, lease.node) == (ask_id, node)]
    use, origin_ms = dict(state.use), state.origin_ms
    for lease in ended:
        origin_ms = usage.first_origin(use, state.policy, origin_ms, lease.start_ms)
        usage.settle(use, state.policy, origin_ms, lease, now_ms)
    left = tuple(lease for lease in state.leases if lease not in ended)
    return replace(state, leases=left, use=use, origin_ms=origin_ms)
