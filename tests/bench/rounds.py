"""Rounds through real processes: coordinator, K agents, their children, one model of a given size.

``python -m tests.bench rounds --nodes K --mb M --json`` prints as its last line ``round_s`` (median, first round left out),
``floor_s`` (the same bytes over mTLS gRPC streams plus one memory-bound fold per update, same run), ``peak_mib`` (the
coordinator's private memory over idle), ``child_peak_mib`` (the ServerApp's child), ``model_mib``, ``bytes_moved``, and
``cpu_s``: CPU seconds of a round (the first left out) by kind of process, which other load on the machine hardly moves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench.rounds_floor import cpu_s
from tests.bench.rounds_floor import measure as measure_floor
from tests.platform import Platform, platform

APP = Path(__file__).parent / "apps" / "perturb"


def private_mib(pid: int) -> float:
    """Return the process's private memory in MiB (what it would give back if it ended)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def children(pid: int) -> list[int]:
    """Return all descendants of ``pid``."""
    try:
        direct = [int(p) for t in Path(f"/proc/{pid}/task").iterdir() for p in (t / "children").read_text().split()]
    except OSError:
        return []
    return direct + [grand for child in direct for grand in children(child)]


class Peak(threading.Thread):
    """Samples the highest private memory of a process and of its largest descendant."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.stopped = pid, threading.Event()
        self.idle = self.peak = private_mib(pid)
        self.child = 0.0

    def run(self) -> None:
        while not self.stopped.wait(0.15):  # reading the figures takes the process's time too
            self.peak = max(self.peak, private_mib(self.pid))
            self.child = max([self.child, *(private_mib(pid) for pid in children(self.pid))])

    def finish(self) -> tuple[float, float]:
        self.stopped.set()
        self.join()
        return self.peak - self.idle, self.child


def cpu_by_kind(whole: Platform) -> dict[str, float]:
    """Return the CPU seconds used so far by the coordinator, the agents and the apps' processes."""
    agents = [node.process.pid for node in whole.nodes.values()]
    return {
        "coordinator": cpu_s(whole.coordinator.pid),
        "serverapp": sum(map(cpu_s, children(whole.coordinator.pid))),
        "agents": sum(map(cpu_s, agents)),
        "clientapps": sum(cpu_s(pid) for agent in agents for pid in children(agent)),
    }


def loopback_bytes() -> int:
    """Return what the loopback device has received since boot."""
    line = next(text for text in Path("/proc/net/dev").read_text().splitlines() if text.strip().startswith("lo:"))
    return int(line.split()[1])


def run_job(whole: Platform, digest: str, args: argparse.Namespace, rounds: int) -> dict[str, Any]:
    """Run one job and return its round times, and the bytes moved and the CPU used per round."""
    before = loopback_bytes()
    job = whole.submit(digest, num_server_rounds=rounds, mib=float(args.mb), nodes=args.nodes)
    cpu = _cpu_per_round(whole, job, rounds)
    done = whole.finish(job, 600, every=1.0)  # asking costs the coordinator time
    assert done["state"] == "succeeded", (done["note"], whole.tail())
    moved = loopback_bytes() - before
    rows = [row for row in whole.client.jobs.rounds(job) if row["round"]]
    closed = [row["closed_at"] for row in rows]
    return {"closed": closed, "moved": moved / rounds, "cpu": cpu}


def _cpu_per_round(whole: Platform, job: str, rounds: int) -> dict[str, float]:
    """Return what a round takes of each kind of process, between the first round seen closed and the last but one."""
    closed: list[tuple[int, dict[str, float]]] = []
    while (done := whole.client.jobs.get(job))["state"] in {"queued", "admitted", "running"} and done["round"] < rounds:
        if done["round"] and (not closed or closed[-1][0] != done["round"]):
            closed.append((done["round"], cpu_by_kind(whole)))
        time.sleep(0.5)  # asking costs the coordinator time
    if len(closed) < 2:  # too fast to be seen
        return {}
    (first, before), (last, after) = closed[0], closed[-1]
    return {kind: round((after[kind] - before[kind]) / (last - first), 3) for kind in after}


def seconds_between(times: list[str]) -> list[float]:
    """Return the gaps of ISO times in seconds."""
    from datetime import datetime

    at = [datetime.fromisoformat(text).timestamp() for text in times]
    return [b - a for a, b in pairwise(at)]


def main(argv: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench rounds")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--mb", type=float, default=0.001)
    parser.add_argument("--rounds", type=int, default=0, help="default: 30 for tiny models, 7 for large ones")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    rounds = args.rounds or (30 if args.mb < 1 else 8)
    with tempfile.TemporaryDirectory(prefix="hansa-bench-") as folder, platform(Path(folder)) as whole:
        whole.add_nodes([f"n{i}" for i in range(args.nodes)])
        digest = whole.approve(APP)
        whole.start_nodes()
        peak = Peak(whole.coordinator.pid)
        peak.start()
        result = run_job(whole, digest, args, rounds)
        over_idle, child = peak.finish()
    gaps = seconds_between(result["closed"])[1:]
    floor, floor_cpu = measure_floor(nodes=args.nodes, mib=args.mb)
    round_s = statistics.median(gaps)
    row = {
        "nodes": args.nodes,
        "model_mib": args.mb,
        "round_s": round(round_s, 4),
        "round_s_all": [round(gap, 4) for gap in gaps],
        "floor_s": round(floor, 4),
        "ratio": round(round_s / floor, 3) if floor else None,
        "peak_mib": round(over_idle, 1),
        "child_peak_mib": round(child, 1),
        "bytes_moved": int(result["moved"]),
        "cpu_s": result["cpu"],
        "floor_cpu_s": round(floor_cpu, 3),
        "cpu_ratio": round(sum(result["cpu"].values()) / floor_cpu, 3) if floor_cpu and result["cpu"] else None,
        "models_moved": round(result["moved"] / (args.mb * 2**20), 3),
    }
    if not args.json:
        for key, value in row.items():
            print(f"{key:16} {value}")
    print(json.dumps(row))
