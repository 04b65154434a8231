"""Folders of children without a sandbox: none is left behind, none is taken from a living process."""

import signal
import subprocess
import sys
from pathlib import Path

from common.sandbox import home

LEFT = """
import os, signal
from common.sandbox.home import Home
print(Home().path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_its_folder_to_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr(home.tempfile, "tempdir", str(tmp_path))
    ended = subprocess.run(
        [sys.executable, "-c", LEFT], env={"TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True,
    )  # fmt: skip
    left = Path(ended.stdout.strip())
    assert (ended.returncode, left.is_dir(), left.parent) == (-signal.SIGKILL, True, tmp_path)
    mine = home.Home()
    assert list(tmp_path.iterdir()) == [mine.path]
    (mine.path / "final_model.pt").write_text("x")
    home.sweep()
    assert list(mine.path.iterdir())
    mine.remove()
    mine.remove()
    assert list(tmp_path.iterdir()) == []
