"""Why each waiting ask waits, and why each idle node is idle: the last pass, put into words.

A reason names the ask's own numbers and never another tenant's job.
"""

from __future__ import annotations

import numpy as np

from common.ids import NodeId
from coordinator.scheduling.accounts import most
from coordinator.scheduling.line import DEMOTED, Queue
from coordinator.scheduling.passes import Pass, Started, settle
from coordinator.scheduling.quota import limit_words
from coordinator.scheduling.records import State, Wait
from coordinator.scheduling.rooms import admitted_ms, kept_rooms
from coordinator.scheduling.world import World

# Of what keeps asks that could use a node from it, the later says more about the node.
_IDLE = {
    "nothing": "nothing that waits could use it",
    "never": "what could use it needs more nodes than there are",
    "limited": "the limits of those who could use it are below what they need",
    "limit": "the limits of those who could use it are reached",
    "behind_own": "those who could use it have older asks that wait for their limits",
    "no_capacity": "what could use it needs more nodes at once than are free",
    "behind_reservation": "what could use it would delay an ask that nodes are kept for",
    "reserved": "it is kept for an ask that starts as soon as its other nodes are free",
}


def why(state: State, now_ms: int) -> dict[str, Wait]:
    """Return the reason of every ask of ``state`` that waits, after a decision at ``now_ms``."""
    _, started, last = settle(World.of(state), now_ms)
    return reasons(started, last)


def reasons(started: list[Started], last: Pass) -> dict[str, Wait]:
    """Return the reason of every ask that waited before the decision that ended with the pass ``last``."""
    world, now_ms = last.world, last.now_ms
    waits = {s.ask.id: Wait(s.ask.id, "starting", "it starts with the next decision", now_ms) for s in started}
    for queue in world.line.queues.values():
        code, reason, not_before_ms = _reason(last, queue)
        for _, _, ask_id, _ in queue.asks:
            waits[ask_id] = Wait(ask_id, code, reason, not_before_ms)
    return waits | {wait.ask: wait for wait in last.waits}


def idle(state: State, now_ms: int) -> dict[NodeId, str]:
    """Return every node on which nothing runs after a decision at ``now_ms``, with the reason."""
    _, _, last = settle(World.of(state), now_ms)
    return unused(last)


def unused(last: Pass) -> dict[NodeId, str]:
    """Return every node on which nothing runs after the decision that ended with the pass ``last``, with the reason."""
    world, codes = last.world, list(_IDLE)
    says = np.zeros(len(world.pool.nodes), np.int64)
    for queue in world.line.queues.values():
        word = _reason(last, queue)[0]
        if word == "never" and len(queue.reach.able) >= queue.name[2]:
            word = "limited"  # there are nodes enough: it is limits that never admit it
        says[queue.reach.able] = np.maximum(says[queue.reach.able], codes.index(word))
    for reservation in last.kept.reserved:
        says[reservation.rows] = codes.index("reserved")
    waits = bool(world.line.queues)
    return {
        node: _IDLE[codes[says[row]]] if waits else "nothing waits"
        for node, row in sorted(world.pool.row.items())
        if not world.pool.on(node)
    }


def _reason(last: Pass, queue: Queue) -> tuple[str, str, int | None]:
    """Return code, words and the earliest time for a queue that did not start in the last pass."""
    world, reach, ask, m = last.world, queue.reach, queue.head, queue.name[2]
    accounts, sites, supply = world.accounts, reach.sites, len(reach.able)
    if supply < m:
        return "never", f"it needs {_nodes(m)}, and {supply} that are there could serve it", None
    admitted = most(accounts.empty_rooms(ask.tenant, sites, ask.need), sites)
    if admitted < m:
        words = f"it needs {_nodes(m)}, and limits never admit more than {admitted}: {_limits(last, queue)}"
        return "never", words, None
    admitted = most(accounts.limit_rooms(ask.tenant, sites, ask.need), sites)
    if admitted < m:
        when = admitted_ms(world, queue)
        return "limit", f"it needs {_nodes(m)}, and its tenant's limits admit {admitted} more now", when
    until_ms = last.now_ms + ask.bound_ms
    rooms, _ = kept_rooms(world, ask, sites, world.key(queue, DEMOTED), last.kept.reserved, until_ms)
    if most(rooms, sites) < m:
        return "behind_own", "an older ask of its own tenant waits for the limits", None
    fit = world.reaches.fit(reach)
    free, usable = int(fit.room[reach.able].sum()), last.kept.count(fit, reach.able, until_ms)
    if usable < m <= free:
        when = min(r.at_ms for r in last.kept.outlasted(reach.able, until_ms))
        return "behind_reservation", f"of the {free} free nodes it could use, {free - usable} are kept for others", when
    return "no_capacity", f"it needs {_nodes(m)}, and {free} of the {supply} that could serve it are free", None


def _nodes(count: int) -> str:
    return f"{count} node" + ("" if count == 1 else "s")


def _limits(last: Pass, queue: Queue) -> str:
    """Return which sites limit the ask's tenant to what, and who may change it."""
    ask, sites, accounts = queue.head, queue.reach.sites, last.world.accounts
    rooms = accounts.empty_rooms(ask.tenant, sites, ask.need)
    short = sorted(site for site, room in rooms.items() if room < sites[site])
    said = "; ".join(limit_words(accounts.grants[ask.tenant][site], ask.need) for site in short)
    asks = " or ".join(f"{site} (hansa quota set {ask.tenant} --site {site} --limit …)" for site in short)
    return f"{said}; ask {asks}"
