"""The scheduler's records as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from common.clock import iso
from coordinator.api import schemas_queue as s
from coordinator.domain.nodes import Node
from coordinator.scheduling.events import Entry
from coordinator.scheduling.policies import ABOUT
from coordinator.scheduling.records import Ask, Lease, Policy
from coordinator.scheduling.replay import lease_id
from coordinator.services.queue import History, Proof, Queue, Waiting, words

Names = Mapping[str, str]


def policy(record: Policy) -> s.PolicyOut:
    """Return who goes first."""
    about = ABOUT[record.name]
    return s.PolicyOut(
        name=record.name,
        fair=record.fair,
        k=record.k,
        half_life_s=None if record.half_life_ms is None else record.half_life_ms / 1000,
        head_starts_s={c: ms / 1000 if math.isfinite(ms) else None for c, ms in record.head_start_ms.items()},
        reservations=record.reservations,
        promise=about.promise,
        starvation_bound=about.starvation_bound,
    )


def ask(record: Ask, names: Names) -> s.AskOut:
    """Return an ask; ``names`` maps a node's id to its name."""
    nodes = None if record.candidates is None else [names.get(node, node) for node in record.candidates]
    return s.AskOut(
        id=record.id,
        job=record.job,
        tenant=record.tenant,
        minimum=record.m,
        maximum=record.n,
        nodes=nodes,
        need=s.NeedOut(
            gpu_kind=record.need.kind,
            gpu_milli=record.need.milli,
            gpu_memory_mib=record.need.mib,
            cpus=record.need.cpu_milli / 1000,
            memory_mib=record.need.ram_mib,
        ),
        priority=record.klass,
        expected_s=record.est_ms / 1000,
        longest_s=record.bound_ms / 1000,
        left_s=record.left_ms / 1000,
        submitted_at=_at(record.submit_ms),
    )


def waiting(record: Waiting, names: Names) -> s.WaitOut:
    """Return an ask that waits: why, and until when."""
    wait = record.wait
    return s.WaitOut(
        **ask(record.ask, names).model_dump(),
        code=wait.code,
        reason=wait.reason,
        not_before=_maybe(wait.not_before_ms),
        forecast_start=_maybe(record.forecast_ms),
        latest_start=_maybe(record.latest_ms),
    )


def lease(record: Lease, names: Names, enforcement: Sequence[str] = ()) -> s.LeaseOut:
    """Return a lease, with what holds it to its slice."""
    return s.LeaseOut(
        id=lease_id(record),
        ask=record.ask,
        job=record.job,
        tenant=record.tenant,
        node=record.node,
        node_name=names.get(record.node, record.node),
        site=record.site,
        devices=[piece.device for piece in record.slices],
        gpu_milli=sum(piece.milli for piece in record.slices),
        borrowed=record.borrowed,
        enforcement=list(enforcement),
        started_at=_at(record.start_ms),
        until=_at(record.until_ms),
    )


def queue(record: Queue, seen: frozenset[str], nodes: Mapping[str, Node]) -> s.QueueOut:
    """Return the queue as far as the jobs ``seen`` and the given ``nodes`` go."""
    names = {id_: node.name for id_, node in nodes.items()}
    return s.QueueOut(
        at=_at(record.at_ms),
        policy=policy(record.policy),
        waiting=[waiting(one, names) for one in record.waiting if one.ask.job in seen],
        leases=[
            lease(one, names, record.enforcement.get((one.ask, one.node), ()))
            for one in record.leases
            if one.job in seen
        ],
        idle=[
            s.IdleOut(node=node.id, name=node.name, site=node.tenant, reason=record.idle[node.id])
            for node in sorted(nodes.values(), key=lambda node: (node.tenant, node.name))
            if node.id in record.idle
        ],
        hidden=sum(one.ask.job not in seen for one in record.waiting),
    )


def history(record: History, rule: Policy, seen: frozenset[str], names: Names) -> s.HistoryOut:
    """Return what is known of an ask; of others only those of the jobs ``seen``."""
    return s.HistoryOut(
        ask=ask(record.ask, names),
        asked_at=_at(record.asked_ms),
        policy=policy(record.proof.state.policy if record.proof is not None else rule),
        wait=None if record.waiting is None else waiting(record.waiting, names),
        leases=[lease(one, names) for one in record.leases],
        rows=[_row(row) for row in record.rows],
        proof=None if record.proof is None else _proof(record.proof, seen, names),
    )


def _proof(record: Proof, seen: frozenset[str], names: Names) -> s.ProofOut:
    asks = {one.id: one for one in record.state.asks}
    weights = {(grant.site, grant.tenant): grant.weight for grant in record.state.grants}
    tenants = {one.tenant for one in asks.values() if one.job in seen} | {record.ask.tenant}
    return s.ProofOut(
        row=record.row,
        at=_at(record.at_ms),
        holds=record.holds,
        waiting=len(asks),
        nodes=len(record.state.nodes),
        granted=[lease(one, names) for one in record.leases],
        use=[
            s.UseOut(site=site, tenant=tenant, used=used / 1000, weight=weights.get((site, tenant), 1))
            for (site, tenant), used in sorted(record.state.use.items())
            if tenant in tenants
        ],
        others=[
            s.OtherOut(ask=name, tenant=asks[name].tenant, outcome=outcome)
            for name, outcome in sorted(record.others.items())
            if asks[name].job in seen
        ],
    )


def _row(row: Entry) -> s.HistoryRowOut:
    return s.HistoryRowOut(row=row.seq, at=_at(row.at_ms), event=row.kind, words=words(row))


def _at(ms: int) -> str:
    return iso(ms / 1000)


def _maybe(ms: int | None) -> str | None:
    return None if ms is None else _at(ms)
