"""Virtual clients per second of the one-process simulation: a 784-32-10 perceptron, one step a client, Flower objects.

``python -m tests.bench simulation --json`` prints as its last line ``clients_per_s`` (the median of the runs), with
``step_ms`` (the same training step alone, in the same setting) to compare.  One thread of arithmetic: a client's step
is far too small to be parted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "tests" / "apps" / "mlp_app"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
STEP = """
import sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np, mlp
x, y = mlp.data_of(0)
params = [np.zeros(s, np.float32) for s in ((784, 32), (32,), (32, 10), (10,))]
times = []
for _ in range(300):
    began = time.perf_counter()
    mlp.step([p.copy() for p in params], x, y)
    times.append(time.perf_counter() - began)
print(sorted(times)[150] * 1000)
"""


def simulate(nodes: int, rounds: int) -> float:
    """Return the clients per second of one run."""
    program = ROOT / "common" / "child" / "__main__.py"
    config = json.dumps({"num-server-rounds": rounds})
    command = [sys.executable, "-s", "-P", str(program), "simulate", str(APP), "--nodes", str(nodes)]
    return float(_last(_run([*command, "--run-config", config]))["clients_per_s"])


def step_ms() -> float:
    """Return the milliseconds of the bare training step."""
    return float(_run([sys.executable, "-c", STEP, str(APP)]).strip())


def _run(command: list[str]) -> str:
    env = {**os.environ, **ONE_THREAD}
    return subprocess.run(
        command, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout


def _last(lines: str) -> dict:
    return json.loads(lines.strip().splitlines()[-1])


def main(argv: list[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="simulation")
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    runs = [simulate(options.nodes, options.rounds) for _ in range(options.repeat)]
    step = step_ms()
    result = {"clients_per_s": statistics.median(runs), "runs": runs, "step_ms": round(step, 4), "nodes": options.nodes}
    if not options.json:
        print(f"{result['clients_per_s']:.0f} virtual clients a second; the bare step alone takes {step:.3f} ms")
    print(json.dumps(result))
    return 0
