"""Every reason why a node or a federation cannot serve a job; never only the first.

The node judges again for itself (it is the last judge); this is what can be known beforehand.
"""

from __future__ import annotations

from common.ids import AppDigest, TenantId
from common.jobspec import WHOLE_DEVICE, JobSpec, Resources
from coordinator.domain.denials import Denial
from coordinator.domain.nodes import Node, NodeReport, NodeStatus
from coordinator.domain.tenancy import Federation

ANY_APP = "*"


def node_denials(
    node: Node, federation: Federation, app: AppDigest, spec: JobSpec, *, connected: bool, offline_since: str = ""
) -> tuple[Denial, ...]:
    """Return every reason why ``node`` cannot take part in the job.

    Args:
        node: The node and its last report.
        federation: Where the job runs.
        app: Digest of the job's app.
        spec: What the job asks for.
        connected: Whether the node's stream is open now.
        offline_since: For people: since when it is not.
    """
    denials: list[Denial] = []
    if node.status is not NodeStatus.ACTIVE:
        denials.append(Denial(f"node_{node.status}", f"{node.name} is {node.status}"))
    elif not connected:
        since = f" since {offline_since}" if offline_since else ""
        denials.append(Denial("node_offline", f"{node.name} offline{since}", "start its agent", passing=True))
    if node.tenant not in federation.accepted:
        denials.append(Denial("not_a_member", f"tenant {node.tenant} has not accepted federation {federation.id}"))
    report = node.report
    if report is None:
        return (*denials, Denial("no_report", f"{node.name} has not reported yet", passing=True))
    return (
        *denials,
        *_dataset_denials(node, report, federation, spec),
        *_app_denials(node, report, federation, app),
        *_capacity_denials(node, report, spec),
    )


def federation_denials(federation: Federation, tenant: TenantId) -> tuple[Denial, ...]:
    """Return every reason why ``tenant`` cannot run the job in ``federation`` at all."""
    denials = []
    if tenant not in federation.accepted:
        denials.append(
            Denial(
                "not_a_member",
                f"tenant {tenant} has not accepted federation {federation.id}",
                f"hansa federation accept {federation.id}",
            )
        )
    return tuple(denials)


def only_passing(denials: tuple[Denial, ...]) -> bool:
    """Say whether waiting may help: nothing but reasons that can vanish by themselves."""
    return all(denial.passing for denial in denials)


def _dataset_denials(node: Node, report: NodeReport, federation: Federation, spec: JobSpec) -> list[Denial]:
    shared = {offer.name for offer in report.datasets if offer.federation == federation.id}
    step = f"at {node.name}: hansa node dataset share NAME --federation {federation.id}"
    if spec.datasets:
        missing = [name for name in spec.datasets if name not in shared]
        return [
            Denial("dataset_not_shared", f"{node.name} shares no dataset {name!r} into {federation.id}", step)
            for name in missing
        ]
    if not shared:
        return [Denial("dataset_not_shared", f"{node.name} shares no dataset into {federation.id}", step)]
    return []


def _app_denials(node: Node, report: NodeReport, federation: Federation, app: AppDigest) -> list[Denial]:
    approved = {digest for where, digest in report.approvals if where == federation.id}
    if approved & {app, ANY_APP}:
        return []
    return [
        Denial(
            "app_not_approved",
            f"{node.name}'s steward has not approved app {app[:12]} in {federation.id}",
            f"at {node.name}: hansa node app approve {app} --federation {federation.id}",
        )
    ]


def _capacity_denials(node: Node, report: NodeReport, spec: JobSpec) -> list[Denial]:
    denials, need = [], spec.resources
    if spec.environment not in report.environments:
        known = ", ".join(sorted(report.environments)) or "none"
        denials.append(
            Denial("environment_missing", f"{node.name} has no environment {spec.environment!r}; it has {known}")
        )
    if report.slots < 1:
        denials.append(Denial("no_slots", f"{node.name} runs no tasks (0 slots)"))
    if report.cpus and need.cpus > report.cpus:
        denials.append(Denial("too_few_cpus", f"{node.name} has {report.cpus} CPUs, the job asks for {need.cpus}"))
    if report.memory_mib and need.memory_mib > report.memory_mib:
        denials.append(
            Denial(
                "too_little_memory", f"{node.name} has {report.memory_mib} MiB, the job asks for {need.memory_mib} MiB"
            )
        )
    return denials + _device_denials(node, report, need)


def _device_denials(node: Node, report: NodeReport, need: Resources) -> list[Denial]:
    if not need.gpu_milli:
        return []
    kind, count = need.gpu_kind or "cuda", max(1, need.gpu_milli // WHOLE_DEVICE)
    split = {device.parent for device in report.devices}  # a GPU cut into instances is lent as those
    there = [d for d in report.devices if d.kind == kind and d.uuid not in split]
    large = [d for d in there if not d.memory_mib or d.memory_mib >= need.gpu_memory_mib]
    asked = f"the job asks for {need.gpu_milli / WHOLE_DEVICE:g}"
    if not there:
        return [Denial("no_gpu", f"{node.name} offers no {kind} device, {asked}")]
    if len(there) < count:
        return [Denial("too_few_gpus", f"{node.name} has {len(there)} {kind} devices, {asked}")]
    if len(large) < count:
        most = max(d.memory_mib for d in there)
        return [
            Denial(
                "gpu_too_small",
                f"{node.name} has {len(large)} {kind} devices of {need.gpu_memory_mib} MiB (largest: {most} MiB), "
                f"{asked}",
            )
        ]
    return []
