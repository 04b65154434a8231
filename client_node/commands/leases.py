"""``hansa node leases | devices``: what this node lends, to whom, and how it is held there."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from client_node.adapters.lease_log import SqliteLeaseLog
from client_node.adapters.nvml import Nvml
from client_node.commands.shared import Dir, Json, looked_at, out
from client_node.guard.leases import Device, Use
from client_node.guard.service import HELD, INTERRUPTED, LeaseEntry, service
from client_node.services.agent_lock import running_agent
from client_node.services.devices import Devices, is_withheld
from client_node.settings import load
from common.cli.output import Column, field
from common.cli.session import session
from common.clock import iso
from common.errors import BadInput

_SHOWN = 50  # of the newest leases, in the table for people
_AGO = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def leases(
    directory: Dir = None,
    since: Annotated[str, typer.Option("--since", help="From then on: 30m, 12h, 7d, or an ISO 8601 time.")] = "",
    as_json: Json = False,
) -> None:
    """Show this node's own log of leases: who held what and how it ended, and each tenant's sums of service."""
    after = moment(since, session().now) if since else 0.0
    with looked_at(directory) as (place, state):
        entries = SqliteLeaseLog(state).entries(after)
        running = running_agent(place.lock) is not None
    sums = [asdict(one) for one in service(entries, after)]
    rows = [_lease(entry, running=running) for entry in entries]
    if as_json:
        out().json({"since": iso(after) if since else None, "tenants": sums, "leases": rows})
        return
    shown: list[Column] = [(name.upper(), field(name)) for name in ("start", "tenant", "task", "on", "held_s")]
    shown += [("OUTCOME", field("outcome")), ("PEAK MIB", field("peak_mib")), ("HELD TO BY", field("enforcement"))]
    out().rows(rows[-_SHOWN:], shown, empty="no lease is on record")
    if len(rows) > _SHOWN:
        out().say(f"the newest {_SHOWN} of {len(rows)}; all with --json")
    if sums:
        columns = [(name.replace("_", " ").upper(), field(name)) for name in ("tenant", "leases", "gpu_s", "cpu_s")]
        out().rows(sums, columns)


def devices(directory: Dir = None, as_json: Json = False) -> None:
    """List the accelerators of this machine as they are now, and whether they are lent."""
    with looked_at(directory) as (place, _):
        settings = load(place.root)
    driver = Nvml()
    try:
        found = Devices(driver, lambda: settings)
        found.scan()
        rows = [_device(one, found.use(one.uuid), settings.withheld_devices) for one in found.all()]
        problem = driver.problem
    finally:
        driver.close()
    if problem:
        out().say(f"NVIDIA's driver cannot be used: {problem}")
    columns: list[Column] = [(name.replace("_", " ").upper(), field(name)) for name in _COLUMNS]
    out().rows(rows, columns, empty="no accelerator: a CPU-only node")


_COLUMNS = ("uuid", "kind", "name", "memory_mib", "used_mib", "busy_percent", "processes", "lent")


def moment(text: str, now: float) -> float:
    """Return the UTC seconds that ``--since`` names.

    Raises:
        BadInput: it is neither a time nor so long ago.
    """
    if ago := _AGO.fullmatch(text):
        return now - int(ago.group(1)) * _SECONDS[ago.group(2)]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--since takes 30m, 12h, 7d or an ISO 8601 time, got {text!r}") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _lease(entry: LeaseEntry, *, running: bool) -> dict[str, object]:
    lease, parts = entry.lease, entry.lease.slices
    # What is held while no agent runs was left so by one that is gone; the next one will write it down.
    outcome = ("held" if running else INTERRUPTED) if entry.outcome == HELD else entry.outcome
    return {
        "lease": lease.id,
        "job": lease.job,
        "task": lease.task,
        "tenant": lease.tenant,
        "on": ", ".join(f"{part.milli}/1000 of {part.device}" for part in parts) or "CPU only",
        "devices": [asdict(part) for part in parts],
        "milli": lease.milli,
        "cpu_milli": lease.cpu_milli,
        "ram_mib": lease.ram_mib,
        "start": iso(entry.start),
        "end": None if outcome == "held" else iso(entry.seen),
        "held_s": entry.held_s,
        "outcome": outcome,
        "enforcement": list(entry.enforcement),
        "peak_mib": entry.peak_mib,
    }


def _device(device: Device, use: Use, withheld: tuple[str, ...]) -> dict[str, object]:
    return {
        "uuid": device.uuid,
        "kind": device.kind,
        "name": device.name,
        "memory_mib": device.memory_mib or None,
        "parent": device.parent,
        "profile": device.profile,
        "used_mib": use.used_mib,
        "busy_percent": use.busy_percent,
        "processes": None if use.processes is None else {str(pid): mib for pid, mib in use.processes.items()},
        "files": list(device.files),
        "lent": not is_withheld(device, withheld),
    }
