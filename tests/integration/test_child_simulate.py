"""The simulation in one process gives what real processes give, and what Flower's own engine gives."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.sandbox import SandboxMode
from tests.apps.play import APPS, play

pytestmark = pytest.mark.integration
PROGRAM = Path(__file__).resolve().parents[2] / "common" / "child" / "__main__.py"


def simulate(app: str, *options: str, result: Path | None = None) -> tuple[int, list[dict[str, Any]]]:
    command = [sys.executable, "-I", "-B", str(PROGRAM), "simulate", str(APPS / app), *options]
    command += ["--result", str(result)] if result else []
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    return ran.returncode, [json.loads(line) for line in ran.stdout.splitlines()]


async def test_it_agrees_with_real_processes(tmp_path: Path) -> None:
    code, events = simulate("numpy_app", "--nodes", "3", result=tmp_path / "r.safetensors")
    assert (code, events[-1]["event"]) == (0, "finished")
    played = await play(APPS / "numpy_app", 3, SandboxMode.NONE, tmp_path)
    simulated = load_file(tmp_path / "r.safetensors")
    assert simulated.keys() == played.arrays.keys()
    for name, array in played.arrays.items():
        np.testing.assert_allclose(simulated[name], array, rtol=1e-5, atol=1e-5)
        assert simulated[name].dtype == array.dtype
    for key, value in played.last["metrics"].items():
        assert events[-1]["metrics"][key] == pytest.approx(value, rel=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="no Ray: pip install flwr[simulation]")
@pytest.mark.parametrize("app", ["numpy_app", "../../examples/heart"])  # heart reads run_config and ends with a query
def test_it_agrees_with_flowers_own_engine(tmp_path: Path, app: str) -> None:
    for engine in ("inline", "ray"):
        code, events = simulate(app, "--nodes", "3", "--engine", engine, result=tmp_path / engine)
        assert (code, events[-1]["event"]) == (0, "finished"), events[-1]
    inline, ray = load_file(tmp_path / "inline"), load_file(tmp_path / "ray")
    assert inline.keys() == ray.keys()
    for name, array in ray.items():
        np.testing.assert_allclose(inline[name], array, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("app", ["sklearn_app", "by_hand", "push_pull", "stateful", "shadow"])
def test_any_app_runs(app: str) -> None:
    code, events = simulate(app, "--nodes", "3")
    assert (code, events[-1]["event"]) == (0, "finished"), events[-1]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    def run(name: str, seed: str) -> int:
        return simulate("torch_app", "--nodes", "3", "--seed", seed, result=tmp_path / name)[0]

    with ThreadPoolExecutor(3) as pool:  # most of it is the import of torch
        assert list(pool.map(run, "abc", ("1", "1", "2"))) == [0, 0, 0]
    first, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == again != other


def test_configuration_and_node_facts_reach_the_app() -> None:
    _, events = simulate("numpy_app", "--run-config", '{"num-server-rounds": 1}', "--nodes", "2")
    assert sum(event["event"] == "exchange" for event in events) == 2


def test_a_bad_update_is_dropped_and_said() -> None:
    code, events = simulate("hostile", "--run-config", '{"act": "nan"}')
    assert (code, events[-1]["event"], events[-1]["reason"]) == (1, "failed", "too_few_nodes")
    dropped = [event for event in events if event["event"] == "update_dropped"]
    assert [event["why"] for event in dropped] == ["an array holds values that are not finite"] * 2


@pytest.mark.parametrize(
    ("act", "reason"), [("raise", "app_raised"), ("exit", "app_exited"), ("not_a_message", "bad_reply")]
)
def test_a_failing_client_is_said_with_its_node(act: str, reason: str) -> None:
    code, events = simulate("hostile", "--run-config", json.dumps({"act": act}))
    failed = [event for event in events if event["event"] == "client_failed"]
    assert code == 1
    assert {(event["reason"], event["node"]) for event in failed} == {(reason, 1000), (reason, 1001)}


def test_a_failing_server_is_the_end() -> None:
    code, events = simulate("hostile", "--run-config", '{"act": "", "server-act": "raise"}')
    assert (code, events[-1]["event"], events[-1]["reason"]) == (1, "failed", "app_raised")
    assert "ZeroDivisionError" in events[-1]["traceback"]


def test_what_an_app_prints_never_mixes_with_the_events() -> None:
    code, events = simulate("hostile", "--run-config", '{"act": "print"}')
    assert code == 0
    assert {event["event"] for event in events} == {"exchange", "round_done", "finished"}


@pytest.mark.parametrize("app", ["sklearn_app", "torch_app"])
def test_what_an_app_saves_by_a_bare_name_is_nowhere_afterwards(app: str, tmp_path: Path) -> None:
    where, temporary = tmp_path / "here", tmp_path / "tmp"
    where.mkdir()
    temporary.mkdir()
    command = [sys.executable, "-I", "-B", str(PROGRAM), "simulate", str(APPS / app), "--result", "r.safetensors"]
    before = sorted((APPS / app).rglob("*"))
    ran = subprocess.run(
        command,
        cwd=where,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert "Saving final model" in ran.stderr
    assert [path.name for path in where.iterdir()] == ["r.safetensors"]
    assert not list(temporary.glob("hansa-*"))
    assert sorted((APPS / app).rglob("*")) == before
