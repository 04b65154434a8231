"""A job's Python environment: where its files are, what its children may see of ours, and what an app lacks in it."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

PROBE = Path(__file__).with_name("probe.py")
PROBE_TIMEOUT_S = 60.0

# All that a child sees of an environment; nothing is inherited.
VARIABLES = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "USER": "nobody",
    "LOGNAME": "nobody",
    "PYTHONHASHSEED": "0",  # a ServerApp that is started again must iterate its sets in the same order
    "PYTHONNOUSERSITE": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "Agg",
    "CUDA_VISIBLE_DEVICES": "",  # no accelerator is visible to a child that was not given one
    "ROCR_VISIBLE_DEVICES": "",
    "OMP_WAIT_POLICY": "PASSIVE",  # children share cores; threads that spin for work take them from each other
    "MALLOC_ARENA_MAX": "2",
    # Measured: large buffers kept for the next round instead of given back and faulted in again, 5-15 % of a round.
    "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
}
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def variables(home: str) -> dict[str, str]:
    """Return a child's environment; of ours only the thread counts pass, if the operator set them."""
    threads = {name: os.environ[name] for name in _THREADS if os.environ.get(name, "").isdigit()}
    return {**VARIABLES, **threads, "HOME": home, "TMPDIR": home}


@functools.lru_cache(maxsize=64)
def prefixes(python: str) -> tuple[Path, ...]:
    """Return the folders that an interpreter needs: its virtual environment and the installation behind it."""
    path = Path(python)
    found = []
    venv = path.parent.parent
    config = venv / "pyvenv.cfg"
    if config.is_file():
        found.append(venv)
        for line in config.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "home":
                found.append(Path(value.strip()).parent)
    # Each link on the way to the real interpreter must resolve inside the sandbox too.
    while path.is_symlink():
        path = path.parent / path.readlink()
        found.append(Path(os.path.normpath(path.parent)).parent)
    found.append(path.resolve().parent.parent)
    return tuple(dict.fromkeys(folder for folder in found if folder not in {Path("/"), Path("/usr")}))


def missing_imports(app_dir: Path, python: str, component: str) -> tuple[str, ...]:
    """Return the top-level modules that an app imports and ``python``'s environment does not have, sorted.

    Static: no tenant code runs.  Follows the app's own modules from ``component``; imports inside ``try`` with an
    ``except ImportError`` and under ``TYPE_CHECKING`` are the app's own affair.
    """
    result = subprocess.run(
        _command(app_dir, python, component),
        env=variables("/tmp"),  # noqa: S108 nothing is written
        capture_output=True,
        timeout=PROBE_TIMEOUT_S,
        check=False,
        cwd="/",
    )
    return _parse(result.stdout)


async def missing_imports_async(app_dir: Path, python: str, component: str) -> tuple[str, ...]:
    """Return the same, off the event loop."""
    return await asyncio.to_thread(missing_imports, app_dir, python, component)


def _command(app_dir: Path, python: str, component: str) -> list[str]:
    return [python or sys.executable, "-I", "-B", str(PROBE), str(app_dir), component.partition(":")[0]]


def _parse(output: bytes) -> tuple[str, ...]:
    try:
        return tuple(sorted(str(name) for name in json.loads(output)))
    except ValueError:
        return ("(the app's files could not be read)",)
