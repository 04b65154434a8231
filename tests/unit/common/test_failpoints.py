import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.failpoints import REGISTRY

ROOT = Path(__file__).parents[3]
CODE = (
    "from common.failpoints import failpoint\nfor _ in range(3): failpoint('task_offered'); print('alive', flush=True)"
)


@pytest.mark.parametrize(("armed", "lines"), [("", 3), ("job_admitted", 3), ("task_offered", 0), ("task_offered:3", 2)])
def test_only_the_named_place_kills_and_only_at_its_count(armed, lines):
    run = subprocess.run([sys.executable, "-c", CODE], env={"HANSA_FAILPOINT": armed}, cwd=ROOT, capture_output=True)
    assert run.stdout.count(b"alive") == lines
    assert run.returncode == (0 if lines == 3 else -signal.SIGKILL)


@pytest.mark.parametrize(("side", "folder"), [("coordinator", "coordinator"), ("node", "client_node")])
def test_every_listed_place_is_marked_once_and_no_other(side, folder):
    marked = [
        name
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"failpoint\(\"(\w+)\"\)", path.read_text())
    ]
    assert sorted(marked) == sorted(REGISTRY[side])
