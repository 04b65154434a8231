"""``hansa up`` and ``hansa demo``."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from common.cli.local.bringup import Raised
from common.cli.local.demo import run_main_job
from common.cli.local.layout import FEDERATION, Layout, default_app, plan_layout
from common.cli.local.processes import Processes, child_environ
from common.cli.output import Output
from common.cli.session import session
from common.errors import PlatformError, Unreachable
from common.sandbox import available

Nodes = Annotated[int, typer.Option(min=1, max=64, help="How many, each of its own tenant.")]
App = Annotated[Path | None, typer.Option(help="The app; one hospital a CSV file of its data folder.")]
Sandbox = Annotated[str, typer.Option(help="auto, bwrap, or none.")]
_LOOK_S = 0.5


def up(
    directory: Annotated[Path, typer.Option("--dir", help="Where it lives; made if new, started again if not.")] = Path(
        "hansa-platform"
    ),
    nodes: Nodes = 4,
    app: App = None,
    sandbox: Sandbox = "auto",
) -> None:
    """Run a whole platform here: a coordinator and hospital nodes, each its own process; until Ctrl-C."""
    now = session()
    layout = plan_layout(directory.absolute(), (app or default_app()).absolute(), nodes)
    with _running(layout, now.out, sandbox) as raised:
        if now.out.as_json:
            now.out.line({"url": raised.url, "context": str(layout.context), "app_digest": raised.app_digest})
        now.out.say(f"up: {raised.url}, {len(layout.sites)} nodes; everything lies in {layout.root}")
        other = layout.sites[-1]
        now.out.next(
            f"export HANSA_CONTEXT={layout.context}",
            "hansa nodes ls",
            f"hansa job submit {layout.app} --federation {FEDERATION} --watch",
            f"hansa node status --dir {layout.sites[0].agent}",
            f"HANSA_TOKEN=$(cat {other.token_file}) hansa quota ls   (this way you act for {other.name})",
        )
        now.out.say("Ctrl-C ends it; the same command starts it again.")
        while True:
            raised.wait(_LOOK_S)


def demo(
    keep: Annotated[Path | None, typer.Option(help="Keep everything in this new folder.")] = None,
    nodes: Nodes = 4,
    app: App = None,
    sandbox: Sandbox = "auto",
) -> None:
    """Run the main job end to end: join, train, publish, deploy, predict; then leave no process behind."""
    now, began = session(), time.monotonic()
    root = keep.absolute() if keep else Path(tempfile.mkdtemp(prefix="hansa-demo-"))
    layout = plan_layout(root, (app or default_app()).absolute(), nodes)
    try:
        with _running(layout, now.out, sandbox) as raised:
            result = run_main_job(raised, now.out)
            pids = [process.running.pid for process in raised.processes.started]
    except PlatformError as error:
        if keep is None:
            error.next_step = "hansa demo --keep DIR keeps the logs and everything else"
        raise
    finally:
        if keep is None:
            shutil.rmtree(root, ignore_errors=True)
    seconds = round(time.monotonic() - began, 1)
    if now.out.as_json:
        now.out.json({**result, "seconds": seconds, "processes": len(pids)})
    now.out.say(f"done in {seconds} s; all {len(pids)} processes have ended")
    now.out.next(*([f"hansa up --dir {keep}"] if keep else ["hansa up"]))


@contextmanager
def _running(layout: Layout, out: Output, sandbox: str) -> Iterator[Raised]:
    """Raise the platform for the block and end it afterwards, whatever happens: failure, Ctrl-C or SIGTERM."""
    now, mode = session(), _sandbox(sandbox, out)
    processes = Processes(child_environ({"HANSA_CONTEXT": str(layout.context), "HANSA_SANDBOX": mode}), now.clock)
    raised = Raised(layout, processes, now.clock, out.say, mode)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        raised.raise_all()
        yield raised
    except KeyboardInterrupt:
        out.say("ending …")
        raise
    except Unreachable:
        processes.check()  # a process that died says more than a refused connection
        raise
    finally:
        # A second Ctrl-C must not leave processes behind.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raised.close()
        processes.end()
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _sandbox(wanted: str, out: Output) -> str:
    if wanted not in {"auto", "bwrap", "none"}:
        raise typer.BadParameter("must be auto, bwrap or none", param_hint="--sandbox")
    if wanted != "auto":
        return wanted
    usable, why = available()
    if not usable:
        out.say(f"warning: no sandbox on this machine ({why}): the example's code runs unconfined")
    return "bwrap" if usable else "none"
