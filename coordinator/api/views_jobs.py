"""Records as JSON: plans, jobs, their events and rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from common.clock import iso
from coordinator.api import schemas_jobs as s
from coordinator.api.views import finite, maybe
from coordinator.domain.denials import Denial
from coordinator.domain.exchanges import HIDDEN, Exchange
from coordinator.domain.jobs import Job, JobLogEntry
from coordinator.domain.nodes import Node
from coordinator.domain.quotas import Amount
from coordinator.ports.link import NodeLink
from coordinator.scheduling.records import Need
from coordinator.services.foresight import Outlook, SiteShare
from coordinator.services.machines import need_of
from coordinator.services.queue import Waiting
from coordinator.services.submit import Plan


def plan(record: Plan, link: NodeLink, outlook: Outlook | None) -> s.PlanOut:
    """Return where a job could run and every reason against."""
    online = link.connected()
    nodes = [
        s.PlannedNodeOut(
            id=node.id,
            tenant=node.tenant,
            name=node.name,
            online=node.id in online,
            datasets=_datasets(node, record),
            denials=[_denial(d) for d in denials],
        )
        for node, denials in record.nodes
    ]
    return s.PlanOut(
        placeable=record.placeable,
        app_name=record.spec.name,
        model=record.spec.model or record.spec.name,
        rounds=record.spec.rounds,
        minimum=record.spec.cohort.minimum,
        aggregation=record.spec.aggregation,
        missing_imports=list(record.missing_imports),
        denials=[_denial(d) for d in record.denials],
        nodes=nodes,
        outlook=None if outlook is None else _outlook(outlook, record),
    )


def _datasets(node: Node, record: Plan) -> list[str]:
    offers = node.report.datasets if node.report is not None else ()
    shared = {offer.name for offer in offers if offer.federation == record.federation}
    return sorted(shared & set(record.spec.datasets) if record.spec.datasets else shared)


def _outlook(record: Outlook, plan: Plan) -> s.OutlookOut:
    wait = record.wait
    return s.OutlookOut(
        nodes=record.m,
        start=None if record.start_ms is None else iso(record.start_ms / 1000),
        latest_start=None if record.latest_ms is None else iso(record.latest_ms / 1000),
        code="" if wait is None else wait.code,
        reason="" if wait is None else wait.reason,
        round_s=record.round_s,
        length_s=record.length_s,
        gpu_hours=record.gpu_hours,
        sites=[_share(share, need_of(plan.spec), record.m) for share in record.sites],
    )


def _share(record: SiteShare, need: Need, m: int) -> s.SiteShareOut:
    kind, unit = need.kind or "cpu", 1000
    each = need.milli or need.cpu_milli

    def part(amount: Amount) -> float | None:
        milli = amount.milli.get(need.kind) if need.milli else amount.cpu_milli
        return None if milli is None else milli / unit

    grant = record.grant
    return s.SiteShareOut(
        site=record.site,
        nodes=record.nodes,
        resource=kind,
        round=min(record.nodes, m) * each / unit,
        held=part(record.held) or 0.0,
        guarantee=None if grant is None else part(grant.guarantee),
        limit=None if grant is None else part(grant.limit),
        weight=1 if grant is None else grant.weight,
    )


def job(record: Job) -> s.JobOut:
    """Return a job."""
    roster = [
        s.RosterOut(node=e.node, tenant=e.tenant, name=e.name, partition_id=e.partition_id) for e in record.roster
    ]
    return s.JobOut(
        id=record.id,
        tenant=record.tenant,
        federation=record.federation,
        submitted_by=record.submitted_by,
        app=record.app,
        app_name=record.spec.name,
        model=record.spec.model or record.spec.name,
        run_config=dict(record.spec.config),
        seed=record.seed,
        state=record.state,
        note=record.note,
        reason=record.reason,
        round=record.round,
        rounds=record.rounds or record.spec.rounds,
        metrics=finite(record.metrics),
        roster=roster,
        created_at=iso(record.created_at),
        started_at=maybe(record.started_at),
        ended_at=maybe(record.ended_at),
    )


def detail(record: Job, waits: Sequence[Waiting]) -> s.JobDetailOut:
    """Return a job with what its rounds wait for."""
    found = [
        s.JobWaitOut(
            ask=one.ask.id,
            code=one.wait.code,
            reason=one.wait.reason,
            forecast_start=None if one.forecast_ms is None else iso(one.forecast_ms / 1000),
            latest_start=None if one.latest_ms is None else iso(one.latest_ms / 1000),
        )
        for one in waits
    ]
    return s.JobDetailOut(**job(record).model_dump(), waits=found)


def event(entry: JobLogEntry) -> s.JobEventOut:
    """Return one line of a job's log."""
    return s.JobEventOut(seq=entry.seq, at=iso(entry.at), event=entry.event, facts=_plain(entry.facts))


def _included(record: Exchange, names: Mapping[str, str]) -> list[s.IncludedOut]:
    weights: dict[str, float | None] = {i.node: i.weight if i.weight != HIDDEN else None for i in record.included}
    if not record.fold:
        weights = dict.fromkeys(reply.node for reply in record.replies if reply.node and reply.digest)
    return [s.IncludedOut(node=node, name=names.get(node, node), weight=weight) for node, weight in weights.items()]


def round_(record: Exchange, names: Mapping[str, str]) -> s.RoundOut:
    """Return one exchange; ``names`` maps a node's id to its name."""
    asked = sorted({names.get(m.node, m.node) for m in record.messages})
    return s.RoundOut(
        seq=record.seq,
        round=record.round,
        kind=record.kind,
        message_type=record.messages[0].message_type if record.messages else "",
        fold=record.fold,
        asked=asked,
        included=_included(record, names),
        dropped=[
            s.DroppedOut(node=node, name=names.get(node, node), code=code, message=message)
            for node, code, message in record.dropped
        ],
        opened_at=iso(record.opened_at),
        closed_at=maybe(record.closed_at),
    )


def _denial(record: Denial) -> s.DenialOut:
    return s.DenialOut(code=record.code, message=record.message, next_step=record.next_step, passing=record.passing)


def _plain(value: Mapping[str, object]) -> dict[str, object]:
    return {str(k): _json(v) for k, v in value.items()}


def _json(value: object) -> object:
    """Return ``value`` as JSON can say it; apps report NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_json(v) for v in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
