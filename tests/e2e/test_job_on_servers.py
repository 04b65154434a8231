"""The main job with its records in a real PostgreSQL and its blobs in a real MinIO, coordinator killed half way."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from minio import Minio

from common.manifest import read_unverified
from tests.platform import Platform
from tests.platform import platform as run_platform
from tests.servers.fixtures import PostgresServer, S3Server

pytestmark = pytest.mark.e2e
APP = Path(__file__).parents[1] / "apps" / "numpy_app"
BUCKET = "hansa-e2e"
ROUNDS = 15


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> str:
    return postgres_server.new_database()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, database: str, minio_server: S3Server) -> Iterator[Platform]:
    env = {"HANSA_S3_ACCESS_KEY": minio_server.access_key, "HANSA_S3_SECRET_KEY": minio_server.secret_key}
    where = f"s3+http://127.0.0.1:{minio_server.port}/{BUCKET}"
    arguments = ["--sandbox", "none", "--database", database, "--blobs", where]
    folder = tmp_path_factory.mktemp("servers")
    with run_platform(folder, ["north", "south"], env=env, arguments=arguments) as running:
        for node in running.nodes.values():
            node.hansa("policy", "set", "sandbox", "none")
        running.start_nodes()
        yield running


def weights(platform: Platform, job: str) -> str:
    models = platform.client.models
    (version,) = [v for v in models.get("north", "numpy-regression")["versions"] if v["job"] == job]
    return read_unverified(models.manifest("north", "numpy-regression", version["version"])).blobs["weights"].digest


def test_a_killed_coordinator_ends_the_job_with_the_same_bytes(
    platform: Platform, database: str, minio_server: S3Server
):
    digest = platform.approve(APP)
    whole = platform.finish(platform.submit(digest, num_server_rounds=ROUNDS))
    assert whole["state"] == "succeeded", (whole, platform.tail())

    job = platform.submit(digest, num_server_rounds=ROUNDS)
    platform.until(lambda: platform.client.jobs.get(job)["round"] >= 1, "first round")
    assert platform.client.jobs.get(job)["state"] == "running"
    platform.coordinator.kill(signal.SIGKILL)
    platform.start()
    ended = platform.finish(job)
    assert ended["state"] == "succeeded", (ended, platform.tail())
    assert weights(platform, job) == weights(platform, whole["id"])

    # The records are in the server, and none in a file.
    with psycopg.connect(database) as connection:
        states = dict(connection.execute("SELECT id, state FROM jobs").fetchall())
        assert states == {whole["id"]: "succeeded", job: "succeeded"}
        assert connection.execute("SELECT epoch FROM fence").fetchone() == (2,)
    assert not list(platform.dir.glob("*.sqlite*"))

    # The blobs are in the bucket, under their tenant, and are what their names say.
    bucket = Minio(f"127.0.0.1:{minio_server.port}", minio_server.access_key, minio_server.secret_key, secure=False)
    names = [found.object_name for found in bucket.list_objects(BUCKET, recursive=True)]
    key = f"north/blobs/sha256/{weights(platform, job)}"
    assert key in names
    for name in names:
        with bucket.get_object(BUCKET, name) as stored:
            assert hashlib.sha256(stored.read()).hexdigest() == name.rpartition("/")[2]
    assert not (platform.dir / "blobs").exists()
