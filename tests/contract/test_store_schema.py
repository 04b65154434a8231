"""Migrations, and databases that are newer, damaged, locked, gone or something else."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from common.errors import BadInput, Corrupted, Unreachable, VersionMismatch
from common.ids import JobId
from coordinator.adapters.sql import SqlStore, make_store
from coordinator.adapters.sql.engines import open_engines
from coordinator.adapters.sql.migrate import upgrade
from coordinator.adapters.sql.tables import METADATA
from coordinator.domain.jobs import Submission
from tests.contract import records as r


def change(url: str, statement: str) -> None:
    """Do to the database what none of our code would."""
    engines = open_engines(url)
    try:
        with engines.writer.begin() as connection:
            connection.exec_driver_sql(statement)
    finally:
        engines.dispose()


async def test_the_migrations_lead_to_the_tables_that_the_code_uses(store: SqlStore, store_url: str):
    engines = open_engines(store_url)
    try:
        with engines.reader.connect() as connection:

            def differ(_context, _found_column, _wanted_column, found, wanted):
                # An unbounded VARCHAR is TEXT on both databases; SQLAlchemy decorates the one as the other.
                return found.compile(connection.dialect) != wanted.compile(connection.dialect).replace(
                    "VARCHAR", "TEXT"
                )

            context = MigrationContext.configure(connection, opts={"compare_type": differ})
            assert compare_metadata(context, METADATA) == []
    finally:
        engines.dispose()


async def test_opening_a_database_again_keeps_what_is_in_it(store: SqlStore, second_store: SqlStore):
    await store.write(lambda tx: tx.tenants.add(r.tenant()))
    assert await second_store.read(lambda tx: tx.tenants.list()) == [r.tenant()]


def older(url: str, revision: str) -> None:
    """Make the database that a release of ``revision`` would have left."""
    engines = open_engines(url)
    try:
        upgrade(engines.writer, revision)
    finally:
        engines.dispose()


async def test_a_submission_key_of_the_first_schema_stays_good(store_url: str):
    older(store_url, "0001")
    change(store_url, "INSERT INTO submission_keys (tenant, key, job) VALUES ('north', 'k', 'job_1')")
    opened = make_store(store_url)
    try:
        assert await opened.read(lambda tx: tx.jobs.submission("k", r.NORTH)) == Submission(JobId("job_1"), None)
    finally:
        await opened.close()


async def test_two_coordinators_may_start_on_one_empty_database(store_url: str):
    stores = await asyncio.gather(*(asyncio.to_thread(make_store, store_url) for _ in range(4)))
    epochs = [await store.acquire_epoch() for store in stores]
    assert epochs == [1, 2, 3, 4]
    for store in stores:
        await store.close()


async def test_a_database_of_a_newer_release_is_refused(store: SqlStore, store_url: str):
    await store.close()
    change(store_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(VersionMismatch, match="9999"):
        make_store(store_url)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET state = 'exploded'",
        "UPDATE jobs SET roster = '[{\"node\": 1}]'",
        'UPDATE jobs SET spec = \'{"name": "x"}\'',
        "UPDATE jobs SET metrics = '[]'",
        "UPDATE jobs SET spec = '{\"unknown\": 1}'",
    ],
)
async def test_a_row_that_is_no_record_is_a_typed_error(store: SqlStore, store_url: str, statement: str):
    await store.write(lambda tx: tx.jobs.put(r.job()))
    await store.write(lambda tx: tx.tenants.add(r.tenant()))
    change(store_url, statement)
    with pytest.raises(Corrupted, match="table jobs"):
        await store.read(lambda tx: tx.jobs.get(JobId("job_1")))
    assert await store.read(lambda tx: tx.tenants.list()) == [r.tenant()]  # the rest still works


async def test_a_broken_json_value_is_a_typed_error(tmp_path: Path):
    url = str(tmp_path / "c.sqlite")
    store = make_store(url)
    await store.acquire_epoch()
    await store.write(lambda tx: tx.jobs.put(r.job()))
    change(url, "UPDATE jobs SET metrics = '{\"loss\":'")
    with pytest.raises(Corrupted):
        await store.read(lambda tx: tx.jobs.get(JobId("job_1")))
    await store.close()


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "c.sqlite"
    path.write_bytes(b"these are somebody's notes, not a database" * 100)
    before = path.read_bytes()
    with pytest.raises(Corrupted, match="no database"):
        make_store(str(path))
    assert path.read_bytes() == before


def test_only_the_owner_may_read_the_embedded_database(tmp_path: Path):
    path = tmp_path / "c.sqlite"
    asyncio.run(make_store(str(path)).close())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_locked_database_is_waited_for(tmp_path: Path):
    path = tmp_path / "c.sqlite"
    store = make_store(str(path))
    await store.acquire_epoch()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.2, lambda: other.execute("COMMIT")).start()
    await store.write(lambda tx: tx.tenants.add(r.tenant()))
    other.close()
    await store.close()


async def test_a_database_that_stays_locked_is_an_error_that_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("coordinator.adapters.sql.engines.BUSY_MS", 20)
    path = tmp_path / "c.sqlite"
    store = make_store(str(path), patience_s=0.1)
    await store.acquire_epoch()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unreachable, match="locked"):
        await store.write(lambda tx: tx.tenants.add(r.tenant()))
    other.execute("ROLLBACK")
    other.close()
    await store.write(lambda tx: tx.tenants.add(r.tenant()))
    await store.close()


async def test_a_cut_connection_is_made_anew(postgres_url: str):
    store = make_store(postgres_url)
    await store.acquire_epoch()
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    change(postgres_url, cut)
    await store.write(lambda tx: tx.tenants.add(r.tenant()))
    change(postgres_url, cut)
    assert await store.read(lambda tx: tx.tenants.list()) == [r.tenant()]
    await store.close()


def test_a_server_that_is_not_there_is_named_without_its_password():
    with pytest.raises(Unreachable, match="cannot be reached") as caught:
        make_store("postgresql://hansa:secret@127.0.0.1:1/hansa", patience_s=0.1)
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize("url", ["mysql://h/db", "sqlite://", "sqlite:///:memory:", "http://x", "://"])
def test_another_kind_of_address_is_refused(url: str):
    with pytest.raises(BadInput):
        make_store(url)


def test_every_query_with_a_condition_has_an_index():
    indexed = {t.name: {c.name for c in t.primary_key} for t in METADATA.sorted_tables}
    for table in METADATA.sorted_tables:
        for found in [*table.indexes, *(c for c in table.constraints if isinstance(c, sa.UniqueConstraint))]:
            indexed[table.name] |= {next(iter(found.columns)).name}
    assert {"tenant", "federation", "state", "created_at", "id"} <= indexed["jobs"]
    assert "job" in indexed["model_versions"]
    assert "node" in indexed["deployments"]
