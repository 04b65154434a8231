"""Starts a child process for tenant code: one socketpair, one pipe for what it prints, nothing else inherited."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from common.child import confine
from common.errors import SandboxUnavailable
from common.sandbox import bubblewrap
from common.sandbox.channel import Channel
from common.sandbox.environment import prefixes, variables
from common.sandbox.home import Home
from common.sandbox.limits import Limits
from common.sandbox.printed import Printed
from common.sandbox.process import Child
from common.units import MIB

PROGRAM = Path("common") / "child" / "__main__.py"
CONFINE = Path("common") / "child" / "confine.py"
# Not ``-I``: the hash seed must come from the environment, which is ours alone. The rest of it is here.
_FLAGS = ("-s", "-P", "-B")


class SandboxMode(StrEnum):
    """How a child is kept apart."""

    BWRAP = "bwrap"
    NONE = "none"  # the operator's choice on hosts that cannot; status shows it


@dataclass(frozen=True)
class ChildSpec:
    """What to start and what it may see.

    Attributes:
        role: For people: in messages.
        python: The interpreter of the job's environment.
        app_dir: The app's folder, shown read-only.
        readonly: Files and folders shown read-only.
        writable: Folders shown writable.
        limits: What it may use.
        log_path: Where what it prints is appended; None drops it.
        script: Program instead of ``common/child/__main__.py``; its folders must be in ``readonly``.
        pass_fds: Descriptors it inherits besides its socket, e.g. a listening socket.
        on_log: Called with what it prints, up to the limit.
        args: Arguments behind the socket's number.
        devices: Device files it may use (a granted GPU).
        environment: Variables besides the fixed ones.
    """

    role: str
    python: str
    app_dir: Path | None
    readonly: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)
    log_path: Path | None = None
    script: Path | None = None
    pass_fds: tuple[int, ...] = ()
    on_log: Callable[[bytes], None] | None = None
    args: tuple[str, ...] = ()
    devices: tuple[Path, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


def available() -> tuple[bool, str]:
    """Return whether children can be put into namespaces of their own here, else why not."""
    return bubblewrap.usable()


async def launch(spec: ChildSpec, mode: SandboxMode) -> Child:
    """Start a child.

    It dies with the thread that starts it: call this from the event loop's own.

    Raises:
        SandboxUnavailable: this host cannot give ``mode``, or there is no such interpreter.
    """
    if mode is SandboxMode.BWRAP:
        usable, why = await asyncio.to_thread(available)
        if not usable:
            raise SandboxUnavailable(why, next_step='install bubblewrap, or set sandbox = "none" and accept the risk')
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    log_read, log_write = os.pipe()
    home = Home() if mode is SandboxMode.NONE else None
    try:
        process = _start(spec, mode, theirs.fileno(), log_write, home.path if home is not None else None)
    except OSError as error:
        ours.close()
        os.close(log_read)
        if home is not None:
            home.remove()
        raise SandboxUnavailable(f"the {spec.role} process cannot be started: {error}") from error
    finally:
        theirs.close()
        os.close(log_write)
    printed = Printed(log_read, spec.log_path, spec.limits.log_bytes, spec.on_log)
    return Child(process, Channel(ours), printed, spec.limits, boxed=mode is SandboxMode.BWRAP, home=home)


def _start(spec: ChildSpec, mode: SandboxMode, sock: int, log: int, home: Path | None) -> subprocess.Popen[bytes]:
    environment = {**variables(str(home or "/tmp")), **dict(spec.environment)}  # noqa: S108 its private one
    argv = [str(_program(spec, mode)), str(sock), *spec.args]
    if mode is SandboxMode.NONE:
        argv = [spec.python, *_FLAGS, *argv]
    else:
        writable = ("/tmp", "/dev/shm", *(str(path.absolute()) for path in spec.writable))  # noqa: S108 its own
        environment[confine.WRITABLE] = os.pathsep.join(writable)
        argv = bubblewrap.command(
            [spec.python, *_FLAGS, str(bubblewrap.INSIDE / CONFINE), *argv],
            readonly=_readonly(spec),
            writable=[path.absolute() for path in spec.writable],
            devices=list(spec.devices),
            variables=environment,
            tmp_bytes=spec.limits.memory_mib * MIB // 2,
        )
    # The shell sets the limits before anything else runs, and replaces itself.
    files = f"ulimit -n {spec.limits.files} 2>/dev/null"  # where the host allows fewer, that stands
    limits = f'ulimit -c 0; ulimit -d {spec.limits.data_kib}; {files}; exec "$@"'
    limited = ["/bin/sh", "-c", limits, "sh", *argv]
    return subprocess.Popen(
        limited,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment,
        cwd=home or "/",
        pass_fds=(sock, *spec.pass_fds),
        start_new_session=True,
    )


def _program(spec: ChildSpec, mode: SandboxMode) -> Path:
    if spec.script is not None:
        return spec.script.absolute()
    root = bubblewrap.INSIDE if mode is SandboxMode.BWRAP else bubblewrap.CHILD.parents[1]
    return root / PROGRAM


def _readonly(spec: ChildSpec) -> list[Path]:
    paths = [*prefixes(spec.python), *(path.absolute() for path in spec.readonly)]
    if spec.app_dir is not None:
        paths.append(spec.app_dir.absolute())
    if spec.script is not None:
        paths.append(spec.script.absolute())
    return paths
