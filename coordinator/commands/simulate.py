"""``hansa schedule simulate``: what a policy would have done with a trace."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from common.cli.output import Output
from common.cli.session import session
from common.cli.watching import LiveLine
from common.errors import BadInput
from coordinator.commands.figures import show
from coordinator.commands.policies import Json
from coordinator.scheduling.simulate.engine import History, Progress, Setup
from coordinator.scheduling.simulate.engine import simulate as run
from coordinator.scheduling.simulate.report import report
from coordinator.scheduling.simulate.setting import YARDSTICKS, gpus_for_load, policy_of
from coordinator.scheduling.simulate.sizes import sizes_named
from coordinator.scheduling.simulate.svg import picture
from coordinator.scheduling.simulate.trace import Trace, read_trace

_EVERY_S = 10.0  # in a pipe, between two lines of progress


class PolicyName(StrEnum):
    """The scheduler's policies, and two yardsticks."""

    FCFS = "fcfs"
    SJF = "sjf"
    PRIORITY = "priority"
    FAIR = "fair"
    SRPT = "srpt"
    LAS = "las"


class SizesName(StrEnum):
    """What may be believed of sizes."""

    TRUE = "true"
    LEARNED = "learned"
    ATTAINED = "attained"
    NOISY = "noisy"


TraceFile = Annotated[
    Path, typer.Argument(metavar="TRACE.csv", help="submit, tenant, size, duration or rounds, priority; - = stdin.")
]
Policy_ = Annotated[PolicyName, typer.Option("--policy", "-p", help="srpt and las are yardsticks: sizes decide alone.")]
Sizes_ = Annotated[SizesName | None, typer.Option("--sizes", help="What is believed of sizes. [true; las: attained]")]
Gpus = Annotated[int | None, typer.Option("--gpus", min=1, help="GPUs of the pool. [enough for a load of 0.9]")]
Round = Annotated[float, typer.Option("--round-s", min=0.001, max=1e9, help="Longest lease, seconds.")]
Days = Annotated[str, typer.Option("--days", metavar="A-B", help="Only jobs submitted in these days of the trace.")]
Longest = Annotated[float | None, typer.Option("--longest-s", min=0.001, help="Cut durations to this, seconds.")]
K = Annotated[float | None, typer.Option("--k", min=0, help="What remaining work weighs against waiting.")]
HalfLife = Annotated[float | None, typer.Option("--half-life-s", min=0.001, help="Use counts half after this (fair).")]
Weights = Annotated[list[str] | None, typer.Option("--weight", metavar="TENANT=N", help="Repeat for more.")]
Heads = Annotated[list[str] | None, typer.Option("--head-start", metavar="CLASS=SECONDS", help="Repeat for more.")]
Sigma = Annotated[float, typer.Option(min=0, max=10, help="Error of noisy sizes, in log seconds.")]
Seed = Annotated[int, typer.Option(help="Of that error; the same seed gives the same bytes.")]
Svg = Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Draw each tenant's share over time.")]


def simulate(
    trace: TraceFile,
    policy: Policy_ = PolicyName.FAIR,
    sizes: Sizes_ = None,
    gpus: Gpus = None,
    round_s: Round = 1800.0,
    days: Days = "",
    longest_s: Longest = None,
    k: K = None,
    half_life_s: HalfLife = None,
    weight: Weights = None,
    head_start: Heads = None,
    sigma: Sigma = 1.0,
    seed: Seed = 0,
    svg: Svg = None,
    as_json: Json = False,
) -> None:
    """Run a trace through the scheduler's own decisions and print what came of it.

    Times are seconds or ISO 8601; rows need no order; other columns are ignored.  A slowdown is completion over length
    (at least 10 s); the fairness gap is the most that one tenant got ahead of another, by weight, while both had work
    waiting, in largest grants.
    """
    now = session()
    round_ms = round(round_s * 1000)
    read = _read(trace, round_ms, days, None if longest_s is None else round(longest_s * 1000))
    believed = sizes.value if sizes else YARDSTICKS.get(policy.value, "true")
    starts = _table(head_start, "--head-start")
    chosen = policy_of(policy.value, read.jobs, k=k, half_life_s=half_life_s, head_starts_s=starts)
    weights = {name: _weight(name, value) for name, value in _table(weight, "--weight").items()}
    tenants = {job.tenant for job in read.jobs}
    if strangers := sorted(weights.keys() - tenants):
        some = ", ".join(sorted(tenants)[:20])
        raise typer.BadParameter(f"{strangers[0]!r} is in no job of the trace, which has {some}", param_hint="--weight")
    setup = Setup(chosen, gpus or gpus_for_load(read.jobs), round_ms, weights)
    line = LiveLine(now.out)
    history = run(read.jobs, setup, sizes_named(believed, seed=seed, sigma=sigma), _progress(now.out, line))
    line.clear()
    settings = {
        "policy": policy.value, "k": setup.policy.k, "half_life_s": _seconds(setup.policy.half_life_ms),
        "sizes": believed, "gpus": setup.gpus, "round_s": round_s, "days": days or None, "seed": seed,
    }  # fmt: skip
    record = {**settings, **report(history, setup), "skipped": dict(read.skipped)}
    if svg is not None:
        _draw(svg, history, setup, f"{policy.value}, {believed} sizes, {trace.name}", now.out)
    if as_json:
        now.out.json(record)
    else:
        show(record, now.out)


def _read(trace: Path, round_ms: int, days: str, longest_ms: int | None) -> Trace:
    try:
        if str(trace) == "-":
            read = read_trace(sys.stdin, round_ms=round_ms, days=_days(days), longest_ms=longest_ms)
        else:
            with trace.open(encoding="utf-8", newline="") as lines:
                read = read_trace(lines, round_ms=round_ms, days=_days(days), longest_ms=longest_ms)
    except OSError as error:
        raise BadInput(f"{trace} cannot be read: {error.strerror}", code="bad_trace") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{trace} is not UTF-8 text (byte {error.start})", code="bad_trace") from error
    if not read.jobs:
        left_out = ", ".join(f"{count} {reason}" for reason, count in read.skipped.items())
        raise BadInput(f"no job is left in {trace}" + (f": {left_out}" if left_out else ""), code="bad_trace")
    return read


def _days(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text.strip())
    if not found or float(found[1]) >= float(found[2]):
        raise typer.BadParameter(f"{text!r} is no A-B with A before B, as in 24-44", param_hint="--days")
    return float(found[1]), float(found[2])


def _table(given: Iterable[str] | None, flag: str) -> dict[str, float]:
    table = {}
    for text in given or ():
        name, equals, value = text.rpartition("=")
        try:
            table[name] = float(value)
        except ValueError:
            equals = ""
        if not equals or table[name] != table[name]:  # not a number
            raise typer.BadParameter(f"{text!r} is no NAME=NUMBER", param_hint=flag)
    return table


def _weight(name: str, value: float) -> int:
    if value < 1 or value > 1e6 or value != int(value):
        raise typer.BadParameter(f"the weight of {name!r} must be a whole number from 1", param_hint="--weight")
    return int(value)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _progress(out: Output, line: LiveLine) -> Progress:
    """Return what shows progress: one line drawn over itself on a terminal, else a line every ten seconds."""
    clock = session().clock
    began = clock.now()
    said = [began]

    def show(ended: int, jobs: int, simulated_ms: int) -> None:
        now = clock.now()
        day = simulated_ms / 86_400_000
        text = f"day {day:.1f}: {ended:,} of {jobs:,} jobs ended ({ended / max(jobs, 1):.0%})  {now - began:.0f}s"
        line.draw(text)
        if not out.live and now - said[0] >= _EVERY_S:
            out.say(text)
            said[0] = now

    return show


def _draw(target: Path, history: History, setup: Setup, title: str, out: Output) -> None:
    try:
        target.write_text(picture(history, setup.gpus, title), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{target} cannot be written: {error.strerror}") from error
    out.say(f"drawn: {target}")
