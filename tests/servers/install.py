"""Put the servers that tests start into the user's cache folder, so that a second clone pays nothing.

What a machine cannot build is said in one line; ``HANSA_REQUIRE_SERVERS=1`` turns that into a failure.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PINS = tomllib.loads((Path(__file__).parent / "versions.toml").read_text())


class Missing(Exception):
    """A server is not on this machine; the text says what to install."""


def required() -> bool:
    """Whether a missing server is a failure here."""
    return os.environ.get("HANSA_REQUIRE_SERVERS", "") not in {"", "0"}


def cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hansa" / "servers"


def minio_binary() -> Path:
    """Return the built MinIO. Raises Missing."""
    path = _minio_path()
    if not path.is_file():
        raise Missing("MinIO is not built: install Go (https://go.dev/dl) and run `make servers`")
    return path


def postgres_bin() -> Path:
    """Return the folder of PostgreSQL's programs. Raises Missing."""
    least = PINS["postgresql"]["minimum"]
    folders = [Path(p) for p in (_pg_config(), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))) if p]
    for folder in folders:
        server = folder / "postgres"
        if not server.is_file():
            continue
        said = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
        if int(said.split()[2].split(".")[0].split("devel")[0]) >= least:
            return folder
    raise Missing(f"PostgreSQL {least} or newer is not installed: run `make system` (apt-get install postgresql)")


def _pg_config() -> str:
    program = shutil.which("pg_config")
    if program is None:
        return ""
    return subprocess.run([program, "--bindir"], capture_output=True, text=True, check=False).stdout.strip()


def install() -> int:
    """Build what is missing; print one line a server; return the exit status."""
    missing = 0
    for name, find in (("MinIO", _install_minio), ("PostgreSQL", postgres_bin)):
        try:
            print(f"{name}: {find()}")
        except Missing as reason:
            missing += 1
            print(f"{name}: skipped. {reason}", file=sys.stderr)
    return 1 if missing and required() else 0


def _minio_path() -> Path:
    return cache_dir() / f"minio-{PINS['minio']['version']}"


def _install_minio() -> Path:
    path = _minio_path()
    if path.is_file():
        return path
    go = shutil.which("go")
    if go is None:
        raise Missing("Go is not installed (https://go.dev/dl, or apt-get install golang); tests on a real MinIO skip")
    with _alone():
        if not path.is_file():
            print(f"MinIO: building {PINS['minio']['version']} with {go}, about two minutes", flush=True)
            _build(go, path)
    return path


def _build(go: str, path: Path) -> None:
    pin = PINS["minio"]
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        env = {**os.environ, "GOBIN": folder, "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
        command = [go, "install", "-ldflags=-s -w", f"{pin['module']}@{pin['version']}"]
        built = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
        binary = Path(folder) / "minio"
        if built.returncode or not binary.is_file():
            last = (built.stderr.strip().splitlines() or ["no output"])[-1]
            raise Missing(f"`go install {command[-1]}` failed: {last}")
        _verify(go, binary)
        binary.replace(path)


def _verify(go: str, binary: Path) -> None:
    pin = PINS["minio"]
    said = subprocess.run([go, "version", "-m", binary], capture_output=True, text=True, check=True).stdout
    wanted = ["mod", pin["module"], pin["version"], pin["sum"]]
    if wanted not in [line.split() for line in said.splitlines()]:
        raise Missing(f"what Go built is not {pin['module']} {pin['version']} with {pin['sum']}")


@contextmanager
def _alone() -> Iterator[None]:
    """Wait for another checkout that is building the same."""
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
