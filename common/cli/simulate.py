"""``hansa simulate DIR``: the same app and all its nodes in one child process, without a coordinator.

It runs the user's own code on the user's own machine, so there is no sandbox; but in a child started by path with
``python -I``, so that nothing in the app's folder can stand in for ours.  The child says what happens as JSON lines on
its stdout; what the app prints comes through on stderr.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from common import child, jobspec
from common.cli import failures
from common.cli.output import Output, cell
from common.cli.progress import loss_in
from common.cli.runconfig import parse_run_config
from common.cli.session import session
from common.cli.watching import LiveLine
from common.errors import AppFailed, BadInput


class Engine(StrEnum):
    """What runs the virtual nodes."""

    INLINE = "inline"  # our Grid, one thread
    RAY = "ray"  # Flower's own simulation


def simulate(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The app's directory.")],
    nodes: Annotated[int, typer.Option("--nodes", "-n", min=1, help="How many virtual nodes.")] = 2,
    engine: Annotated[Engine, typer.Option(help="inline: one process. ray: Flower's own simulation.")] = Engine.INLINE,
    run_config: Annotated[list[str], typer.Option("--run-config", "-c", metavar="K=V", help="Repeat for more.")] = [],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the ServerApp and of every task.")] = 0,
    result: Annotated[Path | None, typer.Option(help="Write the trained arrays here, as safetensors.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Hide what the app itself prints.")] = False,
    python: Annotated[Path, typer.Option(help="The interpreter that has what the app imports.")] = Path(sys.executable),
) -> None:
    """Run an app on this machine with virtual nodes; the same app, unchanged, that a job runs."""
    now = session()
    spec = jobspec.parse(_pyproject(directory), parse_run_config(run_config))
    given = [str(directory.resolve()), "--nodes", str(nodes), "--engine", engine.value, "--seed", str(seed)]
    given += ["--run-config", json.dumps(spec.config), "--aggregation", spec.aggregation]
    if result is not None:
        given += ["--result", str(result.resolve())]
    view = _View(now.out, spec.rounds)
    for event in _events(python, given, quiet=quiet):
        view.take(event)
    view.close()
    if view.failed is not None:
        reason = str(view.failed.get("reason") or "app_failed")
        raise AppFailed(f"the app failed: {cell(view.failed.get('message'))}", reason=reason)
    if view.ended is None:
        raise AppFailed("the app ended its own process before it finished", reason="app_exited")
    now.out.next(f"hansa job plan {directory} --federation NAME")
    raise typer.Exit(failures.OK)


class _View:
    """Shows the events: NDJSON as they come, or a live line and at the end a table of the rounds."""

    def __init__(self, out: Output, rounds: int) -> None:
        self._out, self._planned, self._line = out, rounds, LiveLine(out)
        self._rounds: dict[int, dict[str, Any]] = {}
        self.ended: Mapping[str, Any] | None = None
        self.failed: Mapping[str, Any] | None = None

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event of the child."""
        kind = event.get("event")
        if self._out.as_json:
            self._out.line(event)
        if kind in {"round_done", "evaluated"}:
            self._count(event)
        elif kind in {"client_failed", "update_dropped"}:
            self._line.clear()
            self._out.say(f"node {event.get('node')}: {cell(event.get('message') or event.get('why'))}")
        elif kind == "finished":
            self.ended = event
        elif kind == "failed":
            self.failed = event

    def close(self) -> None:
        """Show what was gathered."""
        self._line.clear()
        if self._out.as_json or self.ended is None:
            return
        rows = self._rounds or {0: {"result": self.ended.get("metrics") or {}}}
        names = sorted({(part, key) for row in rows.values() for part, metrics in row.items() for key in metrics})
        header = ["ROUND", *(f"{part.upper()} {key}" for part, key in names)]
        lines = [[str(n), *(cell(row.get(p, {}).get(k)) for p, k in names)] for n, row in sorted(rows.items())]
        self._out.table(header, lines)
        if "seconds" in self.ended:
            speed = f", {self.ended['clients_per_s']:g} clients/s" if self.ended.get("clients_per_s") else ""
            self._out.say(f"done in {self.ended['seconds']:.2f} s{speed}")

    def _count(self, event: Mapping[str, Any]) -> None:
        number = int(event.get("round") or 0)
        row = self._rounds.setdefault(number, {})
        for part in ("train", "evaluate", "metrics"):
            if isinstance(event.get(part), dict) and event[part]:
                row.setdefault("server" if part == "metrics" else part, {}).update(event[part])
        loss = loss_in({**row.get("train", {}), **row.get("evaluate", {})})
        planned = f"/{self._planned}" if self._planned else ""
        self._line.draw(f"round {number}{planned}" + ("" if loss is None else f"  loss {loss:.4f}"))


def _events(python: Path, arguments: list[str], *, quiet: bool) -> Iterator[Mapping[str, Any]]:
    program = str(Path(child.__file__).resolve().parent / "__main__.py")
    with subprocess.Popen(
        [str(python), "-I", "-B", program, "simulate", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
    ) as running:
        try:
            yield from filter(None, map(_event, running.stdout or ()))
        except BaseException:
            running.kill()
            raise


def _event(line: bytes) -> Mapping[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None  # something below Python wrote past the redirection
    return event if isinstance(event, dict) else None


def _pyproject(directory: Path) -> str:
    try:
        return (directory / "pyproject.toml").read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{directory} has no readable pyproject.toml", next_step="name a Flower app's directory"
        ) from error
