"""All checks of a node, in the order in which a person would look; nothing in it is secret or a row of data."""

from __future__ import annotations

import json

from client_node.ports.devices import Driver
from client_node.ports.state import Catalogue
from client_node.services.agent_lock import running_agent
from client_node.services.checks import (
    Check,
    check_approvals,
    check_certificate,
    check_datasets,
    check_devices,
    check_directory,
    check_disk,
    check_key,
    check_sandbox,
)
from client_node.services.node_dir import NodeDir
from client_node.services.reach import check_coordinator
from client_node.settings import NodeSettings
from common.clock import Clock


def examine(
    place: NodeDir, catalogue: Catalogue | None, settings: NodeSettings, driver: Driver, clock: Clock
) -> list[Check]:
    """Return every check that can be made.

    Args:
        place: The node's directory.
        catalogue: What is registered there; None if the directory does not exist yet.
        settings: The node's settings.
        driver: Of this machine's accelerators.
        clock: To measure skew and validity with.
    """
    checks = [check_directory(place)]
    if checks[0].ok:
        checks += [check_key(place), check_certificate(place, clock.now())]
        checks += check_coordinator(place, clock)
    checks += [check_sandbox(settings), check_devices(driver, settings), check_disk(place)]
    if catalogue is not None:
        checks += [*check_datasets(catalogue), check_approvals(catalogue, settings)]
    if checks[0].ok:
        checks.append(check_agent(place))
    return checks


def check_agent(place: NodeDir) -> Check:
    """Does the agent run, and is it connected?"""
    pid = running_agent(place.lock)
    if pid is None:
        return Check("agent", False, "not running", "hansa node run   (or: hansa node install-service)")
    state = read_agent_file(place)
    link, detail = state.get("link", "starting"), state.get("detail", "")
    if link != "connected":
        return Check("agent", False, f"process {pid} is {link}: {detail}", "see the first ✗ above")
    return Check("agent", True, f"process {pid} is connected")


def read_agent_file(place: NodeDir) -> dict[str, object]:
    """Return what the running agent last wrote of itself; empty if there is none."""
    try:
        data = json.loads(place.agent_file.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
