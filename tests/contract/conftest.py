"""Every store and every blob store the product ships, for the suites to run on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from coordinator.adapters.blobs import make_blobs
from coordinator.adapters.blobs_dir import DirectoryBlobs
from coordinator.adapters.blobs_s3 import S3Blobs
from coordinator.adapters.sql import SqlStore, make_store

OpenStore = Callable[[], SqlStore]
OpenBlobs = Callable[[], DirectoryBlobs | S3Blobs]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.integration)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'coordinator.sqlite'}"
    address: str = request.getfixturevalue("postgres_url")
    return address


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[SqlStore]:
    """An empty store whose epoch was taken."""
    opened = make_store(store_url)
    await opened.acquire_epoch()
    yield opened
    await opened.close()


@pytest.fixture
async def second_store(store: SqlStore, store_url: str) -> AsyncIterator[SqlStore]:
    """A second set of connections to the same database, with no epoch of its own."""
    opened = make_store(store_url)
    yield opened
    await opened.close()


@pytest.fixture(params=["directory", *(pytest.param(s, marks=pytest.mark.integration) for s in ("moto", "minio"))])
def blobs_address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "directory":
        return str(tmp_path / "blobs")
    address: str = request.getfixturevalue(f"{request.param}_server").address()
    return address


@pytest.fixture
def blobs(blobs_address: str, tmp_path: Path) -> DirectoryBlobs | S3Blobs:
    return make_blobs(blobs_address, cache_dir=tmp_path / "cache")


@pytest.fixture
def other_blobs(blobs: object, blobs_address: str, tmp_path: Path) -> DirectoryBlobs | S3Blobs:
    """The same blobs seen by another process: nothing cached, nothing verified."""
    return make_blobs(blobs_address, cache_dir=tmp_path / "other-cache")
