"""What nodes lend and what jobs need, in the scheduler's own amounts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from common.ids import NodeId, TenantId
from common.jobspec import JobSpec
from coordinator.domain.nodes import NodeReport
from coordinator.domain.quotas import Amount
from coordinator.scheduling.records import WHOLE, Device, Need, Node

_PLENTY = 1 << 40  # where a node does not say how much it has


def machine_of(node: NodeId, site: TenantId, report: NodeReport) -> Node:
    """Return the node as the scheduler sees it."""
    cut = {device.parent for device in report.devices}  # a GPU that is cut into instances is lent as those
    return Node(
        id=node,
        site=site,
        cpu_milli=report.cpus * 1000 or _PLENTY,
        ram_mib=report.memory_mib or _PLENTY,
        slots=report.slots,
        devices=tuple(
            Device(device.uuid, device.kind, device.memory_mib) for device in report.devices if device.uuid not in cut
        ),
        labels=frozenset(report.labels),
    )


def need_of(spec: JobSpec) -> Need:
    """Return what one task of a job needs at a node."""
    wants = spec.resources
    return Need(
        kind=wants.gpu_kind if wants.gpu_milli else "",
        milli=wants.gpu_milli,
        mib=wants.gpu_memory_mib if wants.gpu_milli else 0,
        cpu_milli=max(wants.cpus * 1000, 1),
        ram_mib=wants.memory_mib,
    )


def total(needs: Iterable[Need]) -> Amount:
    """Return what tasks of these needs take together."""
    milli: Counter[str] = Counter()
    mib: Counter[str] = Counter()
    cpu_milli = ram_mib = 0
    for need in needs:
        if need.milli:
            milli[need.kind] += need.milli
            mib[need.kind] += need.mib * max(1, need.milli // WHOLE)
        cpu_milli += need.cpu_milli
        ram_mib += need.ram_mib
    return Amount(dict(milli), dict(mib), cpu_milli, ram_mib)
