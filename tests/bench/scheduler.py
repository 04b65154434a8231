"""The scheduler against its goals: laws, fairness, a real trace, the cost of a decision, and Erlang's formulas.

``python -m tests.bench scheduler --json [--events N] [--trace FILE --days A-B --gpus N --round-s S --longest-s S]`` prints
as its last line ``violations events fairness_gap_quanta share_error idle_backlog sjf_true_vs_srpt sjf_learned_vs_srpt
longest_wait_vs_fcfs pass_full_ms pass_event_ms pass_full_ms_tenth erlang_max_error`` and what stands behind them under
``details``.  Without ``--trace`` the trace's figures are null.  ``--only PART`` (laws, fairness, trace, passes, erlang)
measures one part; the other figures are null then.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

from coordinator.capacity.erlang import Queue
from coordinator.scheduling.simulate.engine import Setup, simulate
from coordinator.scheduling.simulate.report import report
from coordinator.scheduling.simulate.setting import gpus_for_load, policy_of
from coordinator.scheduling.simulate.sizes import sizes_named
from coordinator.scheduling.simulate.trace import read_trace
from tests.bench.scheduler_laws import pass_times, run_laws
from tests.bench.scheduler_worlds import always_backlogged, gangs_of_all_sizes
from tests.unit.capacity.test_erlang import TABLE

PARTS = ("erlang", "fairness", "passes", "trace", "laws")
KEYS = (
    "violations", "events", "fairness_gap_quanta", "share_error", "idle_backlog", "sjf_true_vs_srpt",
    "sjf_learned_vs_srpt", "longest_wait_vs_fcfs", "pass_full_ms", "pass_event_ms", "pass_full_ms_tenth",
    "erlang_max_error",
)  # fmt: skip
RUNS = (("fcfs", "true"), ("srpt", "true"), ("sjf", "true"), ("sjf", "learned"))  # the slowest first
DAY_S = 86_400.0


def erlang_max_error() -> float:
    """Return the largest distance from the printed table and from exact rationals."""
    worst = 0.0
    for servers, load, *printed in TABLE:
        queue, exact = Queue(servers, load, 1.0), Queue(servers, Fraction(str(load)), Fraction(1))
        found = [queue.p_wait, queue.lq, queue.wq, queue.wait_quantile(0.95)]
        rational = [float(exact.p_wait), float(exact.lq), float(exact.wq)]
        off = [abs(a - b) - 0.5e-12 for a, b in zip(found, printed, strict=True)]  # printed with twelve decimals
        off += [abs(a - b) for a, b in zip(found[:3], rational, strict=True)]
        off += [abs(a - float(b)) for a, b in zip(queue.states(servers), exact.states(servers), strict=True)]
        worst = max(worst, *off)
    return worst


def fairness(seconds: float) -> dict[str, Any]:
    """Return the fairness figures of a simulated day, the worst of three seeds."""
    backlogged = [always_backlogged(seconds, seed) for seed in (1, 2, 3)]
    mixed = [gangs_of_all_sizes(seconds / 4, seed) for seed in (1, 2, 3)]
    worst = {name: max(run[name] for run in backlogged) for name in backlogged[0]}
    return worst | {
        "jain": min(run["jain"] for run in backlogged),
        "idle_backlog": max(r["idle_backlog"] for r in mixed),
    }


def one_run(args: argparse.Namespace, policy: str, sizes: str) -> dict[str, Any]:
    """Return the report of one policy on the trace."""
    days = tuple(float(day) for day in args.days.split("-")) if args.days else None
    round_ms, longest = round(args.round_s * 1000), round(args.longest_s * 1000) if args.longest_s else None
    with Path(args.trace).open(encoding="utf-8", newline="") as lines:
        jobs = read_trace(lines, round_ms=round_ms, days=days, longest_ms=longest).jobs
    setup = Setup(policy_of(policy, jobs), args.gpus or gpus_for_load(jobs), round_ms)
    began = time.perf_counter()
    said = [began]

    def show(ended: int, whole: int, now_ms: int) -> None:
        now = time.perf_counter()
        if now - said[0] > 20:
            print(
                f"{policy}, {sizes} sizes: {ended:,} of {whole:,} jobs, {now - began:.0f} s",
                file=sys.stderr,
                flush=True,
            )
            said[0] = now

    record = report(simulate(jobs, setup, sizes_named(sizes), show), setup)
    del record["tenants"]
    return record | {"gpus": setup.gpus, "wall_s": round(time.perf_counter() - began, 1)}


def trace(args: argparse.Namespace) -> dict[str, Any]:
    """Return the policies on a trace, side by side; two processes at a time."""
    with ProcessPoolExecutor(args.workers) as workers:
        waiting = {run: workers.submit(one_run, args, *run) for run in RUNS}
        runs = {run: future.result() for run, future in waiting.items()}
    srpt, true, learned = (runs[name]["mean_jct_s"] for name in (("srpt", "true"), ("sjf", "true"), ("sjf", "learned")))
    longest = {run: figures["longest_wait_s"] for run, figures in runs.items()}
    return {
        "sjf_true_vs_srpt": true / srpt,
        "sjf_learned_vs_srpt": learned / srpt,
        "longest_wait_vs_fcfs": longest["sjf", "true"] / longest["fcfs", "true"]
        if longest["fcfs", "true"]
        else math.inf,
        "runs": {f"{policy}, {sizes} sizes": figures for (policy, sizes), figures in runs.items()},
    }


def main(argv: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench scheduler")
    parser.add_argument("--trace", default="", help="CSV; columns as of `hansa schedule simulate`")
    parser.add_argument("--days", default="", metavar="A-B", help="of the trace [24-44 for philly_jobs.csv, else all]")
    parser.add_argument("--gpus", type=int, default=0, help="[364 for philly_jobs.csv, else a load of 0.9]")
    parser.add_argument("--round-s", type=float, default=1800.0)
    parser.add_argument("--longest-s", type=float, default=172_800.0, help="durations are cut to this; 0 = not")
    parser.add_argument("--events", type=int, default=1_000_000, help="random events of the laws")
    parser.add_argument("--day-s", type=float, default=DAY_S, help="length of the day of constant backlog")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    if Path(args.trace).name == "philly_jobs.csv":
        args.days, args.gpus = args.days or "24-44", args.gpus or 364
    parts = args.only or PARTS
    measured: dict[str, dict[str, Any]] = {}
    for part in parts:
        if part == "trace" and not args.trace:
            continue
        print(f"{part} …", file=sys.stderr, flush=True)
        measured[part] = {
            "erlang": lambda: {"erlang_max_error": erlang_max_error()},
            "fairness": lambda: fairness(args.day_s),
            "passes": pass_times,
            "trace": lambda: trace(args),
            "laws": lambda: run_laws(args.events),
        }[part]()
    flat = {name: value for figures in measured.values() for name, value in figures.items()}
    row = {key: flat.get(key) for key in KEYS}
    if args.json:
        print(json.dumps(row | {"details": measured}))
        return
    for name, value in row.items():
        print(f"{name:24} {'-' if value is None else f'{value:.6g}'}")


if __name__ == "__main__":
    main(sys.argv[1:])
