"""What the node remembers of datasets, approvals, updates and states."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_node.adapters.state import SqliteState
from client_node.ports.state import Approval, Column, Dataset, KeptState, KeptUpdate, Position
from common.errors import Conflict, NotFound

JOB = "job_1"
ECG = Dataset("ecg", "/data/ecg.csv", "csv", 3, "d" * 64, 9, 7, (Column("a", "int"),), 1.0)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SqliteState]:
    opened = SqliteState(tmp_path / "node.sqlite")
    yield opened
    opened.close()


def update(seq: int, slot: int = 0, content: str = "c", file: str = "") -> KeptUpdate:
    return KeptUpdate(f"{JOB}/{seq}/{slot}", JOB, Position(seq, slot), content, "d", 1, file or f"u{seq}-{slot}")


def after(seq: int, slot: int = 0, file: str = "") -> KeptState:
    return KeptState(JOB, Position(seq, slot), file or f"s{seq}-{slot}", 1)


def test_a_dataset_is_shared_and_forgotten_with_its_shares(state: SqliteState) -> None:
    state.put_dataset(ECG, replace=False)
    state.share("ecg", "hearts")
    state.share("ecg", "hearts")
    assert state.datasets()[0].federations == ("hearts",)
    state.drop_dataset("ecg")
    state.put_dataset(ECG, replace=False)
    assert state.datasets()[0].federations == ()


def test_a_name_that_is_taken_is_replaced_only_on_purpose_and_keeps_its_shares(state: SqliteState) -> None:
    state.put_dataset(ECG, replace=False)
    state.share("ecg", "hearts")
    with pytest.raises(Conflict, match="'ecg' is registered already"):
        state.put_dataset(ECG, replace=False)
    state.put_dataset(Dataset("ecg", "/data/new.csv", "csv", 4, "e" * 64, 9, 8, (), 2.0), replace=True)
    assert (state.datasets()[0].rows, state.datasets()[0].federations) == (4, ("hearts",))


def test_what_is_not_there_cannot_be_shared_unshared_dropped_or_revoked(state: SqliteState) -> None:
    for act in (
        lambda: state.share("ecg", "hearts"),
        lambda: state.unshare("ecg", "hearts"),
        lambda: state.drop_dataset("ecg"),
        lambda: state.revoke("hearts", "a" * 64),
    ):
        with pytest.raises(NotFound):
            act()


def test_an_approval_holds_for_its_federation_until_it_is_revoked(state: SqliteState) -> None:
    state.approve(Approval("hearts", "a" * 64, 1.0, "x"))
    state.approve(Approval("hearts", "a" * 64, 2.0))
    assert state.approvals() == (Approval("hearts", "a" * 64, 1.0, "x"),)
    state.revoke("hearts", "a" * 64)
    assert state.approvals() == ()


def test_an_update_and_the_state_it_left_are_one_commit(state: SqliteState, tmp_path: Path) -> None:
    state.keep(update(0), after(0), void_later=False)
    other = sqlite3.connect(tmp_path / "node.sqlite")
    assert other.execute("SELECT count(*) FROM updates").fetchone() == (1,)
    assert other.execute("SELECT count(*) FROM states").fetchone() == (1,)
    other.close()


def test_a_task_starts_from_the_newest_state_before_it(state: SqliteState) -> None:
    state.keep(update(0), after(0), void_later=False)
    state.keep(update(2), after(2), void_later=False)
    assert state.state_before(JOB, Position(0, 0)) is None
    assert state.state_before(JOB, Position(1, 0)) == after(0)
    assert state.state_before(JOB, Position(2, 0)) == after(0)
    assert state.state_before(JOB, Position(2, 1)) == after(2)


def test_a_task_that_is_trained_anew_voids_the_states_behind_it(state: SqliteState) -> None:
    for seq in range(3):
        state.keep(update(seq), after(seq), void_later=False)
    gone = state.keep(update(1, file="new"), after(1, file="new"), void_later=True)
    assert set(gone) == {"u1-0", "s1-0", "s2-0"}
    assert state.state_before(JOB, Position(9, 0)) == after(1, file="new")


def test_closing_an_exchange_forgets_its_updates_and_keeps_the_state_to_go_on_from(state: SqliteState) -> None:
    state.keep(update(0), after(0), void_later=False)
    assert state.close_exchange(JOB, 0, ()) == ("u0-0",)
    state.keep(update(1), after(1), void_later=False)
    assert set(state.close_exchange(JOB, 1, ())) == {"u1-0", "s0-0"}
    assert state.updates() == ()
    assert state.state_before(JOB, Position(2, 0)) == after(1)


def test_the_state_before_an_open_task_outlives_the_exchanges_around_it(state: SqliteState) -> None:
    for seq in range(3):
        state.keep(update(seq), after(seq), void_later=False)
    state.close_exchange(JOB, 2, ())  # 0 and 1 are still open
    assert state.state_before(JOB, Position(1, 0)) == after(0)
    state.close_exchange(JOB, 0, (Position(1, 0),))
    assert state.state_before(JOB, Position(1, 0)) == after(0)


def test_a_dropped_job_names_all_its_files(state: SqliteState) -> None:
    state.put_job(JOB, b"p")
    state.keep(update(0), after(0), void_later=False)
    assert state.jobs() == (JOB,)
    assert set(state.drop_job(JOB)) == {"u0-0", "s0-0"}
    assert state.jobs() == ()
    assert state.job(JOB) is None
    assert state.files() == frozenset()


def test_writes_wait_for_the_disk_unless_they_may_be_lost_with_the_power(state: SqliteState) -> None:
    found = []
    for how in ({}, {"synced": False}, {}):
        with state.transaction(**how) as db:
            found.append(db.execute("PRAGMA synchronous").fetchone()[0])
    assert found == [2, 1, 2]  # FULL, NORMAL, FULL


def test_a_file_of_the_release_before_gets_what_is_new_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    first = SqliteState(path)
    first.keep(update(0), None, void_later=False)
    with first.transaction() as db:
        db.execute("DROP TABLE leases")
        db.execute("PRAGMA user_version=1")
    first.close()
    again = SqliteState(path)
    assert again.updates() == (update(0),)
    assert again.rows("SELECT count(*) FROM leases") == [(0,)]
    again.close()


def test_a_file_of_a_newer_release_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    SqliteState(path).close()
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version=99")
    raw.close()
    with pytest.raises(Conflict, match="newer release"):
        SqliteState(path)


@given(steps=st.lists(st.sampled_from(["keep", "close"]), max_size=12), stateful=st.booleans())
def test_rounds_in_order_never_lose_the_state_to_go_on_from(
    steps: list[str], stateful: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    state = SqliteState(tmp_path_factory.mktemp("s") / "node.sqlite")
    seq, closed, files = 0, 0, set()
    for step in steps:
        if step == "keep":
            files |= {f"u{seq}-0"} | ({f"s{seq}-0"} if stateful else set())
            files -= set(state.keep(update(seq), after(seq) if stateful else None, void_later=False))
            seq += 1
        elif closed < seq:
            files -= set(state.close_exchange(JOB, closed, ()))
            closed += 1
        before = state.state_before(JOB, Position(seq, 0))
        assert before == (after(seq - 1) if stateful and seq else None)
        assert state.files() == files  # every file is named, or was handed out to be removed
        assert {u.position.seq for u in state.updates()} == set(range(closed, seq))
    state.close()
