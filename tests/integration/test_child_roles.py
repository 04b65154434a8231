"""What a child does besides training: it exports, it waits no longer than it may, and it begins again the same."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from common.child import frames
from common.errors import AppFailed
from common.sandbox import Child, SandboxMode, available
from tests.apps.play import APPS, begin, play, tensors

pytestmark = pytest.mark.integration
MODE = SandboxMode.BWRAP if available()[0] else SandboxMode.NONE


def object_of(arrays: dict[str, np.ndarray]) -> tuple[int, int]:
    """Return an object as a parent writes it."""
    entries = [(f"arrays/{key}", "F32", array.shape, array.nbytes) for key, array in arrays.items()]
    listing = '{"records":[["arrays","array",%s]]}' % str(list(arrays)).replace("'", '"')  # noqa: UP031
    fd = os.memfd_create("object")
    os.write(fd, frames.object_header(entries, {"hansa": listing}))
    for array in arrays.values():
        os.write(fd, array.tobytes())
    return fd, os.fstat(fd).st_size


async def exporter(factory: str) -> Child:
    wanted = {"factory": f"exporting:{factory}", "inputs": {"x": ["batch", 4]}}
    child = await begin(APPS / "exporting", "export", "", MODE, export=wanted)
    assert (await child.receive(60))[0] == {"op": "ready"}
    arrays = {"0.weight": np.eye(3, 4, dtype=np.float32), "0.bias": np.array([0, 0, -5], np.float32)}
    fd, size = object_of(arrays)
    await child.send({"op": "export", "object": size}, [fd])
    os.close(fd)
    return child


async def test_an_export_child_makes_a_graph_of_the_trained_arrays() -> None:
    child = await exporter("net")
    frame, fds = await child.receive(120)
    await child.end()
    assert frame["op"] == "exported", frame
    graph = os.pread(fds[0], frame["graph"], 0)
    os.close(fds[0])
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": np.array([[1, -2, 3, 4]], np.float32)})
    np.testing.assert_array_equal(answer, [[1, 0, 0]])


async def test_a_broken_factory_is_an_exception_of_the_app() -> None:
    child = await exporter("broken")
    frame, _ = await child.receive(60)
    await child.end()
    assert (frame["op"], frame["reason"]) == ("failed", "app_raised")
    assert "LookupError: no such model" in frame["message"]


async def test_an_endless_factory_is_ended() -> None:
    child = await exporter("endless")
    with pytest.raises(AppFailed) as failed:
        await child.receive(0.5)
    assert failed.value.reason == "app_timeout"


async def test_a_serverapp_that_is_started_again_draws_and_iterates_the_same(tmp_path: Path) -> None:
    lives = [await play(APPS / "exporting", 0, mode, tmp_path) for mode in (MODE, MODE, SandboxMode.NONE)]
    results = [life.arrays["arrays/0"].tobytes() for life in lives]
    assert results[0] == results[1] == results[2]
    assert lives[0].arrays["arrays/0"].shape == (6,)


async def test_a_child_ends_by_itself_when_it_is_told_to(tmp_path: Path) -> None:
    child = await begin(APPS / "numpy_app", "client", "fed.client_app:app", MODE, node_id=3)
    assert (await child.receive(60))[0] == {"op": "ready"}
    await child.send({"op": "end"})
    with pytest.raises(AppFailed) as failed:
        await child.receive(20)
    assert (failed.value.reason, "exit code 0" in failed.value.detail) == ("app_exited", True)
    await child.end()
    with pytest.raises(AppFailed):
        await child.send({"op": "end"})


async def test_a_state_that_is_sent_back_is_where_the_app_goes_on() -> None:
    from tests.apps.play import message

    child = await begin(APPS / "stateful", "client", "stateful:client", MODE, node_id=3)
    assert (await child.receive(60))[0] == {"op": "ready"}
    fd, size = object_of({"0": np.zeros(3, np.float32)})
    states, sums = [], []
    for state in (None, None, 0):  # fresh, its own, and the first one again
        facts = {"state": states[state][1]} if state is not None else {}
        handed = [fd] + ([states[state][0]] if state is not None else [])
        await child.send(message("train", size, **facts), handed)
        frame, fds = await child.receive(60)
        assert frame["op"] == "reply", frame
        states.append((fds[1], frame["state"]))
        sums.append(tensors(fds[0])["arrays/0"][0])
        os.close(fds[0])
    await child.end()
    for one in (fd, *(state for state, _ in states)):
        os.close(one)
    assert sums == [1.0, 3.0, 3.0]
