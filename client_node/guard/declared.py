"""Accelerators that an operator declares, since nothing here can measure them: ROCm GPUs, TPUs.

They stand in ``settings.toml``, a table ``[devices.NAME]`` each; docs/operations.md has an example.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import BadInput
from common.ids import slug
from common.jobspec import ACCELERATORS

_DEVICE_FILE = re.compile(r"(?!.*/\.)/dev/[A-Za-z0-9][A-Za-z0-9/._-]*")


@dataclass(frozen=True)
class DeclaredDevice:
    """One accelerator as its operator describes it."""

    kind: str
    name: str = ""
    memory_mib: int = 0  # 0 = not known; then leases of it have no memory of their own
    handle: str = ""  # what an app's libraries know it by (ROCR_VISIBLE_DEVICES); "" = the name it is declared under
    files: tuple[str, ...] = ()  # device files that the granted app may open


def declared(table: object) -> dict[str, DeclaredDevice]:
    """Return the devices of the ``[devices]`` table.

    Raises:
        BadInput: a device is malformed.
    """
    if not isinstance(table, Mapping):
        raise BadInput("devices must be tables: [devices.NAME]")
    return {slug(str(name), what="device"): _device(f"devices.{name}", value) for name, value in table.items()}


def _device(where: str, table: object) -> DeclaredDevice:
    if not isinstance(table, Mapping):
        raise BadInput(f"[{where}] must be a table")
    if unknown := set(table) - set(DeclaredDevice.__dataclass_fields__):
        raise BadInput(f"[{where}] does not know {', '.join(sorted(map(str, unknown)))}")
    kind, memory = table.get("kind", ""), table.get("memory_mib", 0)
    if kind not in ACCELERATORS:
        raise BadInput(f"{where}.kind must be one of {', '.join(ACCELERATORS)}, got {kind!r}")
    if type(memory) is not int or memory < 0:
        raise BadInput(f"{where}.memory_mib must be a whole number, got {memory!r}")
    name, handle, files = table.get("name", ""), table.get("handle", ""), table.get("files", [])
    if not isinstance(name, str) or not isinstance(handle, str):
        raise BadInput(f"{where}.name and {where}.handle must be text")
    # A device's file and nothing else: what is listed here becomes writable in the sandbox.
    if not isinstance(files, list) or not all(isinstance(f, str) and _DEVICE_FILE.fullmatch(f) for f in files):
        raise BadInput(f"{where}.files must be a list of files under /dev, got {files!r}")
    return DeclaredDevice(kind, name, memory, handle, tuple(files))
