"""What the node tells: to the coordinator its report, to people on this machine ``agent.json``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from client_node.ports.state import Catalogue
from client_node.services.devices import Devices
from client_node.settings import NodeSettings
from common.wire import hansa_node_pb2 as pb

_WRITE_EVERY_S = 0.5  # agent.json is for people: no faster than they look


def node_report(
    catalogue: Catalogue, settings: NodeSettings, serving: str, devices: Devices, enforcement: Iterable[str]
) -> pb.NodeReport:
    """Return what the coordinator may know: only datasets that are shared, and no path of them."""
    report = pb.NodeReport(
        devices=devices.report(),
        labels=settings.labels,
        enforcement=enforcement,
        environments=sorted(settings.environments),
        slots=settings.slots,
        cpus=settings.cpus,
        memory_mib=settings.memory_mib,
        sandbox=settings.sandbox,
        serving=serving,
    )
    for dataset in catalogue.datasets():
        for federation in dataset.federations:
            offer = report.datasets.add(
                federation=federation,
                name=dataset.name,
                format=dataset.format,
                rows=dataset.rows,
                digest=dataset.digest,
            )
            offer.columns.extend(pb.Column(name=column.name, type=column.type) for column in dataset.columns)
    for approval in catalogue.approvals():
        report.approvals.add(federation=approval.federation, app_digest=approval.app_digest)
    for federation in settings.allow_any_app:
        report.approvals.add(federation=federation, app_digest="*")
    return report


@dataclass
class AgentState:
    """What ``hansa node status`` shows of the running agent."""

    pid: int
    started: float
    link: str = "starting"  # as the link says: connecting, connected, waiting, refused
    detail: str = ""
    connected_since: float | None = None
    last_error: str = ""
    running: list[str] = field(default_factory=list)  # tasks
    apps: dict[str, int] = field(default_factory=dict)  # job -> process of its warm app
    held: int = 0  # updates kept
    serving: str = ""  # URL of the local model server
    models: list[dict[str, str | int]] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)  # UUIDs of what is lent
    leases: list[str] = field(default_factory=list)  # what is held: task, tenant, devices, what holds it to them
    enforcement: list[str] = field(default_factory=list)  # what can hold leases to their slices here
    sandbox: str = ""
    certificate_until: float | None = None


class AgentFile:
    """Writes ``agent.json`` soon after a change, many changes at once; readers never see half of it."""

    def __init__(self, path: Path, state: AgentState, refresh: Callable[[AgentState], None]) -> None:
        self._path = path
        self.state = state
        self._refresh = refresh
        self._timer: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """Write soon."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WRITE_EVERY_S, self.write)

    def write(self) -> None:
        """Write now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._refresh(self.state)
        partial = self._path.with_suffix(".part")
        partial.write_text(json.dumps(asdict(self.state), indent=2))
        partial.replace(self._path)

    def close(self) -> None:
        """Say that no agent runs any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._path.unlink(missing_ok=True)


def sentence(state: AgentState, catalogue: Catalogue, settings: NodeSettings) -> str:
    """Return in words what the agent does or waits for."""
    if state.link != "connected":
        return f"{state.link}: {state.detail}" if state.detail else state.link
    if state.running:
        return f"running {len(state.running)} task{'s' * (len(state.running) > 1)}: {', '.join(state.running)}"
    shared = {f for dataset in catalogue.datasets() for f in dataset.federations}
    if not shared:
        return "connected; runs nothing: no dataset is shared into a federation"
    approved = {a.federation for a in catalogue.approvals()} | set(settings.allow_any_app)
    if not shared & approved:
        return "connected; runs nothing: no app is approved for " + ", ".join(sorted(shared))
    return "connected; waiting for a job in " + ", ".join(sorted(shared & approved))
