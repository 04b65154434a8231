"""Every setting of the coordinator, read once: defaults, then ``DIR/settings.toml``, then ``HANSA_*``, then flags.

A key is its name in the file (``link_port = 0``) and ``HANSA_LINK_PORT`` in the environment.  Nobody else reads them.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from common.errors import BadInput
from common.sandbox import Limits, SandboxMode
from common.units import GIB, MIB, Bytes, Seconds
from coordinator.domain.quotas import Allowance
from coordinator.domain.tenancy import PLATFORM
from coordinator.scheduling.policies import named
from coordinator.scheduling.records import Policy


@dataclass(frozen=True)
class JobSettings:
    """What a running job may take and how long it may wait."""

    sandbox: SandboxMode
    environments: Mapping[str, str]  # name -> Python interpreter that an operator approved
    jobs_dir: Path
    limits: Limits = field(default_factory=Limits)
    settle_s: Seconds = Seconds(1.0)  # after the last node came, before the roster is fixed without those away
    return_s: Seconds = Seconds(15.0)  # after our own start, before a node that has not come back counts as away
    prepare_s: Seconds = Seconds(120.0)  # a connected node may take to fetch the app and answer
    grace_s: Seconds = Seconds(300.0)  # a node may be away while all others are done
    silence_s: Seconds = Seconds(6 * 3600.0)  # a ServerApp may compute between two calls
    again_s: Seconds = Seconds(5.0)  # after the store or the blobs failed, before a job is taken up again
    restarts: int = 3  # of a ServerApp that crashes at the same place
    update_bytes: Bytes = Bytes(8 * GIB)  # one update
    inline_bytes: Bytes = Bytes(256 * 1024)  # smaller objects are handled where they arrive, without a thread
    block_bytes: Bytes = Bytes(MIB)  # of the fold
    log_every_s: Seconds = Seconds(0.02)  # entries of the job's log are written together


@dataclass(frozen=True)
class CoordinatorSettings:
    """One coordinator."""

    dir: Path
    host: str = "127.0.0.1"  # both listeners
    port: int = 0  # REST; 0 = any free one
    link_port: int = 0  # node link
    names: tuple[str, ...] = ()  # further host names and addresses in the server's certificate
    database: str = ""  # "" = DIR/coordinator.sqlite
    blobs: str = ""  # "" = DIR/blobs; s3://BUCKET, s3+https://HOST/BUCKET …
    s3_access_key: str = ""
    s3_secret_key: str = ""
    s3_ca_file: str = ""
    sandbox: str = "bwrap"  # "bwrap" | "none"
    environments: Mapping[str, str] = field(default_factory=dict)  # besides "default", which is our own interpreter
    memory_mib: int = 4096  # of a child
    certificate_s: Seconds = Seconds(86400.0)  # life of a node's certificate
    settle_s: Seconds = Seconds(1.0)
    grace_s: Seconds = Seconds(300.0)
    update_bytes: Bytes = Bytes(8 * GIB)
    spool_bytes: Bytes = Bytes(64 * GIB)
    tenant_running_jobs: int = 8  # of a tenant to whom the platform admin gave nothing else (hansa quota set)
    tenant_queued_jobs: int = 100
    tenant_stored_bytes: Bytes = Bytes(100 * GIB)
    schedule: str = "fair"  # who goes first: "fcfs" | "sjf" | "priority" | "fair"
    # Numbers of the policy's own: -1, and no head start at all.
    schedule_k: float = -1.0  # what remaining work weighs against waiting
    half_life_s: Seconds = Seconds(-1.0)  # after which a use counts half; inf = never forgotten
    head_starts: Mapping[str, str] = field(default_factory=dict)  # class of priority -> seconds; inf = strictly first
    reservations: int = 4  # rounds that nodes may be kept for at one time
    log_level: str = "info"

    @property
    def schedule_policy(self) -> Policy:
        """Return the scheduler's policy.

        Raises:
            BadInput: there is none of that name, or a number is out of range.
        """
        try:
            head_starts = {name: float(text) for name, text in self.head_starts.items()}
        except ValueError as error:
            raise BadInput(f"a head start is a number of seconds: {error}") from error
        policy = named(
            self.schedule,
            k=self.schedule_k if self.schedule_k >= 0 else None,
            half_life_s=self.half_life_s if self.half_life_s >= 0 else None,
            head_starts=head_starts or None,
        )
        return replace(policy, reservations=self.reservations)

    @property
    def jobs(self) -> JobSettings:
        """Return the part that jobs need."""
        return JobSettings(
            sandbox=SandboxMode(self.sandbox),
            environments={"default": sys.executable, **self.environments},
            jobs_dir=self.dir / "jobs",
            limits=Limits(memory_mib=self.memory_mib),
            settle_s=self.settle_s,
            grace_s=self.grace_s,
            update_bytes=self.update_bytes,
        )

    @property
    def allowance(self) -> Allowance:
        """Return what a tenant may use at the coordinator if nothing else was said."""
        return Allowance(PLATFORM, self.tenant_running_jobs, self.tenant_queued_jobs, self.tenant_stored_bytes)

    @property
    def database_url(self) -> str:
        """Return where the records are."""
        return self.database or f"sqlite:///{self.dir.absolute() / 'coordinator.sqlite'}"


def load(directory: Path, environ: Mapping[str, str], flags: Mapping[str, Any]) -> CoordinatorSettings:
    """Return the settings of the coordinator in ``directory``.

    Args:
        directory: Its folder; need not exist.
        environ: The process environment; ``HANSA_<NAME>`` counts for the names that the file may hold.
        flags: Values from the command line; None = not given.

    Raises:
        BadInput: an unknown key, or a value of the wrong kind.
    """
    settings = CoordinatorSettings(dir=directory.absolute())
    known = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name != "dir"}
    values = _file(directory / "settings.toml", known)
    for name, default in known.items():
        text = environ.get(f"HANSA_{name.upper()}")
        if text is not None:
            values[name] = _parse(name, text, default)
    values |= {name: value for name, value in flags.items() if value is not None}
    checked: dict[str, Any] = {name: _checked(name, value, known[name]) for name, value in values.items()}
    settings = replace(settings, **checked)
    if settings.sandbox not in set(SandboxMode):
        raise BadInput(f"sandbox must be one of {', '.join(SandboxMode)}, got {settings.sandbox!r}")
    return settings


def _file(path: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    for key in table:
        if key not in known:
            raise BadInput(f"unknown key {key!r} in {path}; known are {', '.join(sorted(known))}")
    return table


def _parse(name: str, text: str, default: object) -> object:
    try:
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return float(text)
    except ValueError as error:
        raise BadInput(f"HANSA_{name.upper()} must be a number, got {text!r}") from error
    if isinstance(default, tuple):
        return tuple(part for part in text.split(",") if part)
    if isinstance(default, Mapping):
        return dict(part.split("=", 1) for part in text.split(os.pathsep) if "=" in part)
    return text


def _checked(name: str, value: object, default: object) -> object:
    if isinstance(default, tuple) and isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if isinstance(default, Mapping) and isinstance(value, Mapping):
        return {str(k): str(v) for k, v in value.items()}
    if isinstance(default, float) and isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value)
    if isinstance(default, int) and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(default, str) and isinstance(value, str):
        return value
    raise BadInput(f"setting {name} cannot be {value!r}")
