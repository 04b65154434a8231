"""Watching a job until it ends: a redrawn line on a terminal, a line an event in a pipe, NDJSON for programs.

Ctrl-C only detaches: the job goes on at the coordinator, and the way back is printed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

from common.cli import failures
from common.cli.output import Output, cell, clean
from common.cli.progress import Progress, fold, in_line, in_words, started
from common.client import Client
from common.client.records import FINAL_STATES, Job, JobEvent, ModelVersion
from common.clock import SystemClock
from common.errors import NotFound

NO_MODEL = 'a strategy\'s result becomes one, else the arrays in context.state["arrays"]'
_ROUTINE = frozenset({"round_started", "update_received"})  # so many that a pipe's reader would miss the rest


class Detached(KeyboardInterrupt):
    """The person stopped watching; the job goes on."""


class LiveLine:
    """One line on stderr, drawn over itself; silent where stderr is no terminal."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._drawn = False

    def draw(self, text: str) -> None:
        """Show ``text`` in place of what was shown."""
        if self._out.live:
            self._out.err.write("\r\x1b[2K" + clean(text)[: _width() - 1])
            self._out.err.flush()
            self._drawn = True

    def clear(self) -> None:
        """Leave the line empty for other talk."""
        if self._drawn:
            self._out.err.write("\r\x1b[2K")
            self._out.err.flush()
            self._drawn = False


def watch(
    client: Client,
    job_id: str,
    out: Output,
    *,
    each: Callable[[JobEvent], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Job:
    """Follow the job to its end and return it as it ended.

    Args:
        client: The coordinator.
        job_id: Which job.
        out: Where progress goes: stderr, or stdout as NDJSON with ``--json``.
        each: Called with every entry instead of printing it.
        sleep: Waits while the coordinator is away; what it raises ends the watch.

    Raises:
        Detached: Ctrl-C.
    """
    job = client.jobs.get(job_id)
    line, clock = LiveLine(out), SystemClock()
    began = clock.monotonic()
    progress = Progress(rounds=job["rounds"]) if job["state"] not in FINAL_STATES else started(job)
    try:
        for entry in client.jobs.follow(job_id, sleep=sleep):
            progress = fold(progress, entry)
            _show(entry, out, each)
            line.draw(in_line(progress, clock.monotonic() - began))
    except KeyboardInterrupt:
        raise Detached from None
    finally:
        line.clear()
    return client.jobs.get(job_id)


def quietly(client: Client, job_id: str) -> Job:
    """Wait for the job's end without a word and return it as it ended.

    Raises:
        Detached: Ctrl-C.
    """
    try:
        for _ in client.jobs.follow(job_id):
            pass
    except KeyboardInterrupt:
        raise Detached from None
    return client.jobs.get(job_id)


def verdict(client: Client, job: Job, out: Output) -> int:
    """Say how the job ended and what to type next; return the exit code that this deserves."""
    made = _version(client, job)
    named = [f"hansa model show {job['tenant']}/{job['model']}:{made['version']}"] if made is not None else []
    if job["state"] == "succeeded":
        rounds = f" after {job['round']} round{'s' * (job['round'] != 1)}" if job["round"] else ""
        out.say(f"{job['id']} succeeded{rounds}{_metrics(job)}")
        if made is None:
            out.say(f"it ended without a model: {NO_MODEL}")
        served = ["hansa deployments ls"] if made is not None and made["servable"] else []
        out.next(*named, *served, *([] if named else [f"hansa job logs {job['id']}"]))
        return failures.OK
    reason = job["reason"] or job["state"]
    out.say(f"{job['id']} {job['state']}: {cell(job['note'])} [{cell(reason)}]")
    out.next(f"hansa job logs {job['id']}", f"hansa explain {reason}", *named)
    return failures.exit_code(reason)


def _version(client: Client, job: Job) -> ModelVersion | None:
    """Return the last version that the job made, if it made one."""
    try:
        made = [v for v in client.models.get(job["tenant"], job["model"])["versions"] if v["job"] == job["id"]]
    except NotFound:
        return None
    return max(made, key=lambda version: version["version"], default=None)


def _show(entry: JobEvent, out: Output, each: Callable[[JobEvent], None] | None) -> None:
    if each is not None:
        each(entry)
    elif out.as_json:
        out.line(entry)
    elif not out.live and entry["event"] not in _ROUTINE:
        out.say(in_words(entry))


def _metrics(job: Job) -> str:
    shown = [f"{name} {value:.4g}" for name, value in job["metrics"].items() if isinstance(value, float)]
    return ": " + ", ".join(shown[:6]) if shown else ""


def _width() -> int:

    return shutil.get_terminal_size().columns
