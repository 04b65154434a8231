"""``hansa node install-service`` and ``uninstall``: the agent as a systemd service, and the way back."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from client_node.commands.shared import Dir, Json, Yes, out
from client_node.services.agent_lock import running_agent
from client_node.services.node_dir import NodeDir, node_dir
from client_node.services.service_unit import install, installed, planned, remove
from common.errors import Conflict, NotFound

_FILES = (
    "node.json", "key.pem", "next.pem", "serving.token", "cert.pem", "ca.pem", "settings.toml", "node.sqlite",
    "node.sqlite-wal", "node.sqlite-shm", "agent.json", "lock", "service.json",
)  # fmt: skip
_FOLDERS = ("apps", "updates", "masked", "jobs", "models", "cache", "log")


def install_service(
    directory: Dir = None,
    system: Annotated[bool, typer.Option("--system/--user", help="For the machine, or for this user.")] = False,
    unit: Annotated[str, typer.Option("--unit", help="The unit's name.")] = "hansa-node",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the unit and change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Make the agent a systemd service that starts with the machine and comes back after a crash."""
    place = node_dir(directory)
    if not place.joined and not dry_run:
        place.identity()  # raises, and says how to join
    place.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    service, text = planned(place, "system" if system else "user", unit)
    if dry_run:
        if as_json:
            out().json({"unit": service.unit, "scope": service.scope, "path": service.path, "text": text})
        else:
            out().say(f"# {service.path}")
            out().text(text)
        return
    left = install(place, service, text)
    if as_json:
        out().json({"unit": service.unit, "scope": service.scope, "path": service.path, "to_do": left})
    out().say(f"Wrote {service.path}." + ("" if left else f" {service.unit} is enabled and running."))
    if left:
        out().say("systemd could not be reached from here; type this where it runs:")
        out().next(*left)
    elif not system:
        out().next("loginctl enable-linger   (so that it runs while nobody is logged in)")


def uninstall(directory: Dir = None, yes: Yes = False, as_json: Json = False) -> None:
    """Remove the service and what join and the agent made here.  Datasets are never touched."""
    place = node_dir(directory)
    if not place.root.is_dir():
        raise NotFound(f"{place.root} does not exist; nothing is installed there")
    service = installed(place)
    if not yes:
        what = f"{place.root} (key, certificate, settings, apps, kept updates, models)"
        typer.confirm(f"Remove {what}{' and ' + service.path if service else ''}?", abort=True, err=True)
    left = remove(place, service) if service else []
    if pid := running_agent(place.lock):
        raise Conflict(f"the agent still runs (process {pid})", next_step=f"kill {pid}; then run this again")
    kept = _clear(place)
    if as_json:
        out().json({"removed": str(place.root), "kept": kept, "to_do": left})
    out().say(f"Removed this node from {place.root}; registered data files were not touched.")
    if kept:
        out().say(f"Left there, as none of ours: {', '.join(kept)}")
    if left:
        out().next(*left)
    out().next("a tenant's admin revokes it at the coordinator: hansa nodes revoke NODE")


def _clear(place: NodeDir) -> list[str]:
    for name in _FOLDERS:
        shutil.rmtree(place.root / name, ignore_errors=True)
    for name in _FILES:
        (place.root / name).unlink(missing_ok=True)
    kept = sorted(path.name for path in place.root.iterdir())
    if not kept:
        place.root.rmdir()
    return kept
