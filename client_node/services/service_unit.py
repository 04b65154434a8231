"""The agent as a systemd service: the unit's text, and putting it in place or away."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from client_node.services.node_dir import NodeDir
from common.errors import BadInput, PlatformError

_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}")
_RECORD = "service.json"
_TEMPLATE = """\
[Unit]
Description=Hansa node agent ({directory})
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
{hardening}Environment=PYTHONSAFEPATH=1
UMask=0077
LimitCORE=0
Restart=always
RestartSec=5
KillMode=mixed
TimeoutStopSec=20

[Install]
WantedBy={target}
"""
# A user's manager cannot give these; none of them takes away the user namespaces that the sandbox needs.
_HARDENING = """\
User={user}
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={writable}
LockPersonality=yes
"""


@dataclass(frozen=True)
class Service:
    """A unit in its place."""

    unit: str  # "hansa-node.service"
    scope: str  # "user" | "system"
    path: str


def unit_text(place: Path, command: tuple[str, ...], scope: str, user: str) -> str:
    """Return the unit for an agent on the directory ``place``."""
    hardening = _HARDENING.format(user=_escaped(user), writable=_quoted(str(place))) if scope == "system" else ""
    return _TEMPLATE.format(
        directory=_escaped(str(place)),
        command=" ".join(_quoted(word) for word in command),
        hardening=hardening,
        target="multi-user.target" if scope == "system" else "default.target",
    )


def agent_command(place: Path) -> tuple[str, ...]:
    """Return the command that runs the agent with the interpreter that runs us."""
    script = Path(sys.executable).with_name("hansa")
    start = (str(script),) if script.is_file() else (sys.executable, "-P", "-m", "common.cli")
    return (*start, "node", "run", "--dir", str(place))


def planned(place: NodeDir, scope: str, unit: str) -> tuple[Service, str]:
    """Return where the unit would go, and its text.

    Raises:
        BadInput: the unit's name cannot be one.
    """
    if not _UNIT.fullmatch(unit):
        raise BadInput(f"{unit!r} is no name for a systemd unit")
    user_folder = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "systemd" / "user"
    folder = Path("/etc/systemd/system") if scope == "system" else user_folder
    owner = pwd.getpwuid(place.root.stat().st_uid).pw_name
    text = unit_text(place.root, agent_command(place.root), scope, owner)
    return Service(f"{unit}.service", scope, str(folder / f"{unit}.service")), text


def install(place: NodeDir, service: Service, text: str) -> list[str]:
    """Write the unit, enable and start it where systemd is; return what is left for a person to type.

    Raises:
        PlatformError: the unit cannot be written.
    """
    try:
        Path(service.path).parent.mkdir(parents=True, exist_ok=True)
        Path(service.path).write_text(text)
    except OSError as error:
        raise PlatformError(
            f"{service.path} cannot be written: {error.strerror}", next_step="use sudo, or --user for your own services"
        ) from error
    (place.root / _RECORD).write_text(json.dumps(asdict(service)))
    return _systemctl(service, ["daemon-reload"], ["enable", "--now", service.unit])


def installed(place: NodeDir) -> Service | None:
    """Return the service that ``install`` put in place for this directory."""
    try:
        return Service(**json.loads((place.root / _RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def remove(place: NodeDir, service: Service) -> list[str]:
    """Stop and remove the unit; return what is left for a person to type."""
    left = _systemctl(service, ["disable", "--now", service.unit])
    Path(service.path).unlink(missing_ok=True)
    (place.root / _RECORD).unlink(missing_ok=True)
    return left + _systemctl(service, ["daemon-reload"])


def _systemctl(service: Service, *steps: list[str]) -> list[str]:
    base = ["systemctl", *(["--user"] if service.scope == "user" else [])]
    left: list[str] = []
    for step in steps:
        done = None
        if not left and shutil.which("systemctl"):
            done = subprocess.run([*base, *step], capture_output=True, timeout=60, check=False)
        if done is None or done.returncode != 0:
            left.append(" ".join([*base, *step]))
    return left


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    if any(character in word for character in "\n\r\0"):
        raise BadInput(f"{word!r} cannot stand in a systemd unit")
    escaped = _escaped(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[^\w@%+=:,./$-]", escaped) else escaped
