"""Nodes as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict

from common.clock import iso
from common.ids import FederationId
from coordinator.api import schemas_nodes as s
from coordinator.api.views import maybe
from coordinator.domain.nodes import DatasetOffer, Node, NodeReport, NodeStatus


def node(record: Node, *, online: bool, within: frozenset[FederationId] | None) -> s.NodeOut:
    """Return a node.

    Args:
        record: The node.
        online: Whether it is connected now.
        within: Show only what it shares into these federations; None = the caller is of its own house.
    """
    report = record.report or NodeReport(environments=(), slots=0, cpus=0)
    datasets = [_dataset(d) for d in report.datasets if within is None or d.federation in within]
    approvals = [(f, app) for f, app in report.approvals if within is None or f in within]
    return s.NodeOut(
        id=record.id,
        tenant=record.tenant,
        name=record.name,
        status=record.status.value,
        online=online,
        state=node_state(record, online=online),
        created_at=iso(record.created_at),
        seen_at=maybe(record.seen_at),
        certificate_until=iso(record.certificate_until),
        generation=record.generation,
        datasets=datasets,
        approvals=[s.ApprovalOut(federation=f, app_digest=app) for f, app in approvals],
        environments=list(report.environments),
        slots=report.slots,
        cpus=report.cpus,
        memory_mib=report.memory_mib,
        sandbox=report.sandbox,
        serving=report.serving if within is None else "",
        devices=[s.DeviceOut(**asdict(device)) for device in report.devices],
        labels=list(report.labels),
        enforcement=list(report.enforcement),
        release=report.release,
        skew_s=report.skew_s if math.isfinite(report.skew_s) else 0.0,
    )


def node_state(record: Node, *, online: bool) -> str:
    """Return a node's state in words."""
    match record.status:
        case NodeStatus.REVOKED:
            return "revoked"
        case NodeStatus.QUARANTINED:
            return "quarantined: two copies of its certificate were seen"
        case NodeStatus.ACTIVE:
            if online:
                return "online"
            return "never connected" if record.seen_at is None else f"offline since {iso(record.seen_at)}"


def _dataset(offer: DatasetOffer) -> s.DatasetOut:
    return s.DatasetOut(
        federation=offer.federation,
        name=offer.name,
        format=offer.format,
        rows=offer.rows,
        digest=offer.digest,
        columns=[s.ColumnOut(name=name, type=kind) for name, kind in offer.columns],
    )
