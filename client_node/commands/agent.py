"""``hansa node join | run | status | doctor | models``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from client_node.adapters.nvml import Nvml
from client_node.commands.shared import Dir, Json, looked_at, opened, out, with_dir
from client_node.ports.state import Catalogue
from client_node.services.agent_lock import running_agent
from client_node.services.checks import Check
from client_node.services.doctor import examine, read_agent_file
from client_node.services.node_dir import NodeDir, node_dir
from client_node.services.report import AgentState, sentence
from client_node.settings import NodeSettings, load
from common.cli.output import field
from common.cli.session import session
from common.clock import SystemClock, iso
from common.errors import PlatformError


def join_coordinator(
    url: Annotated[str, typer.Argument(help="The coordinator, https://HOST:PORT.")],
    token: Annotated[str, typer.Option("--token", help="The one-use join token.", envvar="HANSA_JOIN_TOKEN")],
    name: Annotated[str, typer.Option("--name", help="The node's name; default: the token's, or the tenant's.")] = "",
    directory: Dir = None,
    as_json: Json = False,
) -> None:
    """Join this machine to a coordinator: makes the key here, has it certified, pins the coordinator's CA."""
    from client_node.services.enrol import join

    place = node_dir(directory)
    joined = join(url, token, name, place.root, SystemClock())
    place.prepare()
    who = joined.identity
    if as_json:
        out().json({**asdict(who), "certificate_until": iso(joined.certificate_until), "before": joined.before})
    for warning in joined.warnings:
        out().say(f"warning: {warning}")
    verb = "Had joined" if joined.before else "Joined"
    out().say(f"{verb} {who.coordinator} as node {who.name} ({who.node}) of tenant {who.tenant}.")
    out().say("It runs nothing yet: share a dataset and approve an app first.")
    out().next(
        with_dir("hansa node dataset add NAME PATH", directory),
        with_dir("hansa node run", directory) + "   (or: hansa node install-service)",
    )


def run_agent(directory: Dir = None) -> None:
    """Run the agent until it is told to stop."""
    from client_node.app import run

    run(node_dir(directory))


def status(directory: Dir = None, as_json: Json = False) -> None:
    """Say who this node is, what it does, and what it waits for."""
    with looked_at(directory) as (place, state):
        settings = load(place.root)
        pid = running_agent(place.lock)
        agent = read_agent_file(place) if pid else {}
        shown: dict[str, object] = {**_who(place), "agent": _agent_line(place, agent, state, settings)}
        shown["datasets"] = len(state.datasets())
        shown["shared_into"] = sorted({f for d in state.datasets() for f in d.federations})
        shown["approved_apps"] = len(state.approvals())
        shown["any_app_of"] = list(settings.allow_any_app)
        shown["devices"] = agent.get("devices", [])
        shown["leases"] = agent.get("leases", [])
        shown["leases_held_to_by"] = agent.get("enforcement", [])
        shown["sandbox"] = "none: apps run unconfined" if settings.sandbox == "none" else settings.sandbox
        shown["updates_kept"] = len(state.updates())
    for key in ("running", "connected_since", "certificate_until", "last_error", "serving"):
        value = agent.get(key)
        shown[key] = iso(value) if isinstance(value, float) else value
    shown["pid"] = pid
    out().record(shown, [(key.replace("_", " "), field(key)) for key in shown])
    if not place.joined:
        out().next(with_dir("hansa node join https://HOST:PORT --token TOKEN", directory))
    elif pid is None:
        out().next(with_dir("hansa node run", directory))
    elif agent.get("link") != "connected":
        out().next(with_dir("hansa node doctor", directory))


def doctor(directory: Dir = None, as_json: Json = False) -> None:
    """Check everything a node needs; exits 1 if something is amiss."""
    place = node_dir(directory)
    if place.root.is_dir():
        with opened(directory) as (place, state):
            settings, note = _settings(place)
            checks = [*note, *examine(place, state, settings, Nvml(), session().clock)]
    else:
        checks = examine(place, None, NodeSettings(), Nvml(), session().clock)
    if as_json:
        out().json([asdict(check) for check in checks])
    else:
        for check in checks:
            out().text(f"{'✓' if check.ok else '✗'} {check.name}: {check.found}")
            if check.next_step:
                out().text(f"    → {check.next_step}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def models(directory: Dir = None, as_json: Json = False) -> None:
    """List the models that this node serves."""
    place = node_dir(directory)
    agent = read_agent_file(place) if running_agent(place.lock) else {}
    rows = agent.get("models")
    columns = [(name.upper(), field(name)) for name in ("model", "version", "state", "url", "message")]
    out().rows(rows if isinstance(rows, list) else [], columns, empty="the running agent serves no model")


def _settings(place: NodeDir) -> tuple[NodeSettings, list[Check]]:
    try:
        return load(place.root), []
    except PlatformError as error:
        return NodeSettings(), [Check("settings", False, error.detail, error.next_step)]


def _who(place: NodeDir) -> dict[str, object]:
    if not place.joined:
        return {"node": None, "tenant": None, "coordinator": None, "directory": str(place.root)}
    who = place.identity()
    return {
        "node": f"{who.name} ({who.node})",
        "tenant": who.tenant,
        "coordinator": who.coordinator,
        "directory": str(place.root),
    }


def _agent_line(place: NodeDir, agent: dict[str, object], catalogue: Catalogue, settings: NodeSettings) -> str:
    if not place.joined:
        return "has not joined"
    if not agent:
        return "not running"
    known: dict[str, Any] = {name: agent[name] for name in AgentState.__dataclass_fields__ if name in agent}
    return sentence(AgentState(**known), catalogue, settings)
