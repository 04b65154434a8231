"""A tenant's folders called like ours reach the tenant's own code and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from common.sandbox.launch import ChildSpec, SandboxMode, available, launch
from tests.architecture.tree import PACKAGES

SERVER = """
import json
from flwr.serverapp import ServerApp
from flwr.app import ArrayRecord
import numpy as np
import coordinator, client_node, policies
import common, common.child.frames, common.errors

app = ServerApp()

@app.main()
def main(grid, context):
    print("TENANT " + json.dumps([m.WHOSE for m in (common, common.child.frames, common.errors, coordinator, policies)]))
    nodes = list(grid.get_node_ids())  # our Grid, our frames: the tenant's namesakes would have raised
    print("NODES " + json.dumps(nodes))
    context.state["arrays"] = ArrayRecord([np.ones(3, dtype=np.float32)])
"""


@pytest.fixture
def hostile_app(tmp_path: Path) -> Path:
    """An app directory that shadows every name of ours, our frame format and our Grid included."""
    app = tmp_path / "app"
    shadows = [Path(package) / "__init__.py" for package in PACKAGES]
    shadows += [Path("common/child/__init__.py"), Path("common/errors.py"), Path("flwr_shadow.py")]
    shadows += [
        Path("common/child") / f"{module}.py" for module in ("frames", "grid", "roles", "records", "parent", "shim")
    ]
    for shadow in shadows:
        (app / shadow).parent.mkdir(parents=True, exist_ok=True)
        (app / shadow).write_text(
            'WHOSE = "tenant"\n\n\ndef __getattr__(name):\n    raise AttributeError(f"the tenant\'s, not ours: {name}")\n'
        )
    (app / "server_app.py").write_text(SERVER)
    return app


@pytest.mark.integration
@pytest.mark.parametrize("mode", list(SandboxMode))
async def test_a_hostile_folder_called_common_shadows_nothing_of_ours(
    hostile_app: Path, tmp_path: Path, mode: SandboxMode
):
    usable, why = available()
    if mode is SandboxMode.BWRAP and not usable:
        pytest.skip(f"no sandbox here: {why}")
    log = tmp_path / "log"
    child = await launch(ChildSpec("server", sys.executable, hostile_app, log_path=log), mode)
    inside = str(hostile_app)
    try:
        start = {"op": "start", "role": "server", "app_dir": inside, "component": "server_app:app", "run_id": 1}
        start |= {
            "node_id": 0,
            "node_config": {},
            "run_config": {},
            "seed": 1,
            "aggregation": "auto",
            "individual": True,
        }
        await child.send(start)
        said, _ = await child.receive(60)
        assert said == {"op": "ready"}
        said, _ = await child.receive(60)
        assert said["op"] == "nodes", said
        await child.send({"op": "nodes", "ids": [7, 8]})
        said, fds = await child.receive(60)
        assert said["op"] == "finished", said
        assert len(fds) == 1
    finally:
        await child.end()
    printed = log.read_text()
    assert 'TENANT ["tenant", "tenant", "tenant", "tenant", "tenant"]' in printed
    assert "NODES [7, 8]" in printed
