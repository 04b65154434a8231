"""Session fixtures of real servers: PostgreSQL, MinIO, and moto's S3."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest

from tests.servers.install import Missing, minio_binary, postgres_bin, required
from tests.servers.process import answers, free_port, running

T = TypeVar("T")
SHARED = tempfile.gettempdir()  # where other accounts may enter


@dataclass(frozen=True)
class S3Server:
    """A running S3 service."""

    port: int
    access_key: str
    secret_key: str

    def address(self, bucket: str | None = None) -> str:
        """Return the address of a bucket of its own, credentials included, as ``make_blobs`` takes it."""
        name = bucket or "b" + secrets.token_hex(8)
        return f"s3+http://{self.access_key}:{self.secret_key}@127.0.0.1:{self.port}/{name}"


@dataclass(frozen=True)
class PostgresServer:
    """A running PostgreSQL whose superuser needs no password on loopback."""

    port: int
    user: str

    def address(self, database: str) -> str:
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Create a database and return its address."""
        name = "t" + secrets.token_hex(8)
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.address(name)


def need(find: Callable[[], T]) -> T:
    """Return what ``find`` finds; a test that needs a server this machine lacks is skipped, or fails where it must be."""
    try:
        return find()
    except Missing as reason:
        if required():
            pytest.fail(str(reason), pytrace=False)
        raise pytest.skip.Exception(str(reason)) from reason


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    programs = need(postgres_bin)
    # PostgreSQL refuses to run as root, and its account cannot enter pytest's own folders.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    home = Path(tempfile.mkdtemp(prefix="hansa-postgres-", dir=SHARED))
    data, log, port = home / "data", home / "log", free_port()
    try:
        if os.geteuid() == 0:
            shutil.chown(home, user)
        init = [programs / "initdb", "-D", data, "-A", "trust", "-N", "-U", user, "-E", "UTF8"]
        subprocess.run(init, check=True, user=user, cwd=home, stdout=subprocess.DEVNULL)
        # fsync is off: killed processes lose nothing by it, only machines do, and no test cuts the power.
        options = ("listen_addresses=127.0.0.1", f"unix_socket_directories={home}", "fsync=off", "max_connections=60")
        command = [programs / "postgres", "-D", data, "-p", str(port), *(f"-c{option}" for option in options)]
        ready = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]
        with running(
            command,
            log=log,
            ready=lambda: subprocess.run(ready, check=False).returncode == 0,
            user=user,
            stop=signal.SIGINT,
        ):
            yield PostgresServer(port, user)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """An empty database of its own."""
    return postgres_server.new_database()


@contextmanager
def private_minio(
    data: Path, log: Path, again: S3Server | None = None
) -> Iterator[tuple[S3Server, subprocess.Popen[bytes]]]:
    """Run a MinIO on ``data``, on the port and with the keys of ``again`` if it ran there before."""
    binary = need(minio_binary)
    server = again or S3Server(free_port(), "hansa-tests", secrets.token_hex(16))
    env = {
        "HOME": str(log.parent),
        "PATH": os.environ.get("PATH", ""),
        "MINIO_ROOT_USER": server.access_key,
        "MINIO_ROOT_PASSWORD": server.secret_key,
    }
    listen = ["--address", f"127.0.0.1:{server.port}", "--console-address", f"127.0.0.1:{free_port()}"]
    command = [binary, "server", data, *listen, "--quiet"]
    with running(command, log=log, ready=lambda: _minio_ready(server.port), env=env) as child:
        yield server, child


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    home = tmp_path_factory.mktemp("minio")
    with private_minio(home / "data", home / "log") as (server, _):
        yield server


def _minio_ready(port: int) -> bool:
    """Whether it serves S3: its health page answers earlier, while buckets still get 503."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).close()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code == 403  # AccessDenied: we showed no key
    except OSError:
        pass
    return False


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    log, server = tmp_path_factory.mktemp("moto") / "log", S3Server(free_port(), "moto", "moto-secret")
    command = [sys.executable, "-P", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(server.port)]
    with running(command, log=log, ready=lambda: answers(server.port)):
        yield server
