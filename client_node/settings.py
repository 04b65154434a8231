"""What the operator of a node decided, in ``settings.toml``: one record, every value with a default.

The file is meant to be read and edited by people; ``hansa node policy set`` writes it back in the same flat shape.
Deny is the default wherever something would leave the node.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from client_node.guard.declared import DeclaredDevice, declared
from common.errors import BadInput
from common.ids import slug
from common.units import MIB

FILE = "settings.toml"
_SANDBOXES = ("bwrap", "none")
_REPLIES = ("allow", "deny")
_MODES = ("plain", "mask")
_ENVIRONMENT = re.compile(r"environments\.([a-z0-9-]+)")
_TABLES = ("environments", "devices")
_LISTS = {"allow_any_app": "federations", "labels": "words", "withheld_devices": "UUIDs"}
_UUID = re.compile(r"[A-Za-z0-9-]{1,128}")


def _memory_mib() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB


@dataclass(frozen=True)
class NodeSettings:
    """Limits and permissions of one node."""

    individual_replies: str = "deny"  # "allow": updates of this node may be seen one by one
    minimum_mode: str = "plain"  # "mask": updates leave this node in masked sums only
    minimum_cohort: int = 3  # nodes that a masked sum must hold; never under 3
    minimum_tenants: int = 1  # tenants that a masked sum must hold
    allow_any_app: tuple[str, ...] = ()  # federations whose apps run without an approval each
    environments: dict[str, str] = field(default_factory=lambda: {"default": sys.executable})  # name -> Python
    slots: int = 1  # tasks at once
    cpus: int = field(default_factory=lambda: os.cpu_count() or 1)  # at most, for one task
    memory_mib: int = field(default_factory=_memory_mib)  # at most, for one task
    sandbox: str = "bwrap"  # "none": tenants' code runs unconfined; status shows it
    share_logs: bool = False  # what apps print goes to the federation too, not only to this node's log
    share_errors: bool = False  # what a failed app says goes along with its kind and place: it may quote the data
    serving_port: int = 0  # of the local model server; 0 = any free one
    dataset_bytes: int = 1 << 40  # largest file that may be registered
    log_bytes: int = 1 << 20  # kept of what an app prints, each job
    labels: tuple[str, ...] = ()  # words that jobs may ask for, e.g. "a100"
    withheld_devices: tuple[str, ...] = ()  # not lent: beginnings of UUIDs, names of declared ones, or "all"
    devices: dict[str, DeclaredDevice] = field(default_factory=dict)  # what is not measured: ROCm, TPU
    gpu_context_mib: int = 600  # what a CUDA context takes of a slice before the app has allocated anything
    gpu_poll_ms: int = 500  # between looks at the memory that a lease's processes use
    gpu_renew_ms: int = 5000  # how long an app stays warm on a device after its lease, if nobody else is given it
    lease_days: int = 400  # how long ended leases stay in the node's own log


KEYS = tuple(f.name for f in fields(NodeSettings))


def load(node_dir: Path) -> NodeSettings:
    """Return the settings of ``node_dir``; a missing file means the defaults.

    Raises:
        BadInput: the file is no TOML, or names an unknown key or a value of the wrong kind.
    """
    path = node_dir / FILE
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return NodeSettings()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not TOML: {error}", next_step=f"mend or remove {path}") from error
    settings = NodeSettings(environments={}) if "environments" in data else NodeSettings()
    for key, value in data.items():
        if key == "environments" and isinstance(value, dict):
            for name, python in value.items():
                settings = _with(settings, f"environments.{name}", python)
        elif key == "devices":
            settings = replace(settings, devices=declared(value))
        else:
            settings = _with(settings, key, value)
    return settings


def change(settings: NodeSettings, key: str, text: str) -> NodeSettings:
    """Return the settings with ``key`` set from what a person typed.

    Raises:
        BadInput: no such key, or the text is no value for it.
    """
    value: Any = text
    kind = type(getattr(settings, key, ""))
    if kind is bool:
        if text.lower() not in {"true", "false", "yes", "no", "on", "off"}:
            raise BadInput(f"{key} must be true or false, got {text!r}")
        value = text.lower() in {"true", "yes", "on"}
    elif kind is int:
        if not re.fullmatch(r"\d{1,18}", text):
            raise BadInput(f"{key} must be a whole number, got {text!r}")
        value = int(text)
    elif kind is tuple:
        value = [part for part in re.split(r"[,\s]+", text) if part]
    return _with(settings, key, value)


def save(node_dir: Path, settings: NodeSettings) -> None:
    """Write ``settings.toml``: what differs from the defaults, atomically."""
    default = NodeSettings()
    lines = ["# Settings of this node; `hansa node policy show` explains them."]
    for key in KEYS:
        value = getattr(settings, key)
        if key not in _TABLES and value != getattr(default, key):
            lines.append(f"{key} = {_toml(value)}")
    if settings.environments != default.environments:
        lines.append("\n[environments]  # name = Python interpreter; the only ones that jobs may run in")
        lines += [f"{name} = {_toml(python)}" for name, python in sorted(settings.environments.items())]
    for name, device in sorted(settings.devices.items()):
        lines.append(f"\n[devices.{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in asdict(device).items() if value]
    path = node_dir / FILE
    partial = path.with_suffix(".part")
    partial.write_text("\n".join(lines) + "\n")
    partial.replace(path)


def _with(settings: NodeSettings, key: str, value: Any) -> NodeSettings:  # noqa: ANN401 - TOML has any value
    if match := _ENVIRONMENT.fullmatch(key):
        return _with_environment(settings, match.group(1), value)
    if key.partition(".")[0] == "devices":
        raise BadInput(f"devices are declared in {FILE} itself", next_step="docs/operations.md shows how")
    if key not in KEYS or key in _TABLES:
        known = ", ".join(k for k in KEYS if k not in _TABLES)
        raise BadInput(f"unknown setting {key!r}; known are {known}, environments.NAME")
    old = getattr(settings, key)
    if isinstance(old, tuple):
        if not isinstance(value, list):
            raise BadInput(f"{key} must be a list of {_LISTS[key]}, got {value!r}")
        value = tuple(_word(key, str(item)) for item in value)
    elif type(value) is not type(old) or (isinstance(value, int) and value < 0):
        raise BadInput(f"{key} must be a {type(old).__name__} of at least nothing, got {value!r}")
    for name, allowed in (("individual_replies", _REPLIES), ("sandbox", _SANDBOXES), ("minimum_mode", _MODES)):
        if key == name and value not in allowed:
            raise BadInput(f"{key} must be one of {', '.join(allowed)}, got {value!r}")
    return replace(settings, **{key: value})


def _word(key: str, text: str) -> str:
    if key != "withheld_devices":
        return slug(text, what=key)
    if not _UUID.fullmatch(text):
        raise BadInput(f"withheld_devices: {text[:80]!r} cannot be the beginning of a UUID")
    return text


def _with_environment(settings: NodeSettings, name: str, python: object) -> NodeSettings:
    if not isinstance(python, str):
        raise BadInput(f"environments.{name} must be the path of a Python interpreter, got {python!r}")
    others = {key: path for key, path in settings.environments.items() if key != name}
    if python in {"", "-"}:
        return replace(settings, environments=others)
    if not Path(python).is_absolute() or not os.access(python, os.X_OK):
        raise BadInput(f"environments.{name} must be the absolute path of a Python interpreter, got {python!r}")
    return replace(settings, environments=others | {slug(name, what="environment"): python})


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)  # booleans, numbers and strings are written alike in TOML
