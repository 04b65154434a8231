"""The processes of a local platform: started, watched and ended by pid, each with its log.

Started from the main thread only: the kernel's death signal (see ``common.cli.bound``) is tied to the thread that
started them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common.clock import Clock, SystemClock
from common.errors import PlatformError

HANSA = (sys.executable, "-P", "-m", "common.cli")
BOUND = (sys.executable, "-P", "-m", "common.cli.bound")
GRACE_S = 10.0  # between SIGTERM and SIGKILL
COMMAND_S = 60.0  # the longest a short command may take
_TAIL = 4096  # bytes of a log worth showing


class ProcessDied(PlatformError):
    """A process of the local platform ended by itself."""

    code = "process_died"


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log, indented."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return "    (no log)"
    return "\n".join("    " + line for line in text.splitlines()[-lines:]) or "    (the log is empty)"


@dataclass
class Process:
    """One process: what it is called, how it is started, where it logs."""

    name: str
    log: Path
    running: subprocess.Popen[bytes]

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self.running.poll()


@dataclass
class Processes:
    """All processes of a local platform, in the order of their start.

    Args:
        environ: Their environment.
        clock: Measures the grace of ending.
    """

    environ: Mapping[str, str]
    clock: Clock = field(default_factory=SystemClock)
    started: list[Process] = field(default_factory=list)
    brief: set[subprocess.Popen[bytes]] = field(default_factory=set)  # short commands that run now

    def start(self, name: str, arguments: Sequence[str], log: Path) -> Process:
        """Start ``hansa`` with ``arguments`` in its own session, so that a terminal's Ctrl-C reaches only us."""
        with log.open("ab") as file, _interrupted_afterwards():
            running = subprocess.Popen(
                [*BOUND, str(os.getpid()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=dict(self.environ),
                start_new_session=True,
            )
            process = Process(name, log, running)
            self.started.append(process)
        return process

    def command(self, *arguments: str) -> str:
        """Run a short ``hansa`` command and return what it printed; may be called from any thread.

        Raises:
            PlatformError: it failed; its own words are in the message.
        """
        shown = "hansa " + " ".join(_shown(a) for a in arguments)
        with subprocess.Popen(
            [*HANSA, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(self.environ),
            start_new_session=True,
        ) as running:
            self.brief.add(running)
            try:
                out, err = running.communicate(timeout=COMMAND_S)
            except subprocess.TimeoutExpired as error:
                running.kill()
                raise PlatformError(f"{shown} did not end in {COMMAND_S:.0f} s") from error
            finally:
                self.brief.discard(running)
        if running.returncode:
            said = (err or out).decode("utf-8", "replace").strip()
            raise PlatformError(f"{shown} {_ending(running.returncode)}:\n{said}")
        return out.decode("utf-8", "replace")

    def check(self) -> None:
        """Do nothing while all run.

        Raises:
            ProcessDied: one has ended; its log's tail is in the message.
        """
        for process in self.started:
            if (code := process.exit_code) is not None:
                raise ProcessDied(
                    f"{process.name} (pid {process.running.pid}) {_ending(code)}; its log ends:\n{tail(process.log)}",
                    next_step=f"read {process.log}",
                )

    def end_brief(self) -> None:
        """End the short commands that run now."""
        for running in tuple(self.brief):
            running.kill()

    def end(self, grace: float = GRACE_S) -> None:
        """End all, the last started first: SIGTERM, then after ``grace`` seconds SIGKILL.  Idempotent."""
        self.end_brief()
        for process in reversed(self.started):
            if process.exit_code is None:
                process.running.send_signal(signal.SIGTERM)
        until = self.clock.monotonic() + grace
        for process in self.started:
            try:
                process.running.wait(max(0.0, until - self.clock.monotonic()))
            except subprocess.TimeoutExpired:
                process.running.kill()
                process.running.wait()
        self.started.clear()


@contextmanager
def _interrupted_afterwards() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back: raised between a process's start and its entry in the list they orphan it."""
    came: list[int] = []
    before = {kind: signal.signal(kind, lambda kind, _: came.append(kind)) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    for late in came:
        signal.raise_signal(late)


def child_environ(extra: Mapping[str, str]) -> dict[str, str]:
    """Return our environment without the caller's own settings of Hansa, and with ``extra``."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HANSA_")}
    return {**ours, "PYTHONUNBUFFERED": "1", **extra}


def _shown(argument: str) -> str:
    return argument[:5] + "…" if argument.startswith(("hjt1_", "hat1_")) else argument


def _ending(code: int) -> str:
    return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
