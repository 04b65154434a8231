"""A download that overwrites an old file: what of it counts, after each way to stop."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from client_node.adapters.partial_file import PartialFile
from common.units import MIB

NEW = os.urandom(3 * MIB)
DIGEST = hashlib.sha256(NEW).hexdigest()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "got"


def begun(target: Path, over: Path | None, size: int = len(NEW)) -> PartialFile:
    file = PartialFile(target, DIGEST, size, over)
    file.begin()
    return file


def old(target: Path, size: int) -> Path:
    spare = target.with_name("spare")
    spare.write_bytes(os.urandom(size))
    return spare


@pytest.mark.parametrize("size", [10, len(NEW), len(NEW) + 10_000])
def test_an_old_file_is_used_up_and_nothing_of_it_is_left(target: Path, size: int) -> None:
    spare = old(target, size)
    inode = spare.stat().st_ino
    file = begun(target, spare)
    assert file.offset == 0
    file.write([NEW])
    assert file.finish()
    assert target.read_bytes() == NEW
    assert target.stat().st_ino == inode
    assert [path.name for path in target.parent.iterdir()] == ["got"]


def test_what_has_come_over_an_old_file_is_gone_on_with_and_no_more_than_that(target: Path) -> None:
    first = begun(target, old(target, len(NEW)))
    first.write([NEW[:MIB]])
    first.close()  # what is on the disk now is what a killed agent leaves
    second = begun(target, old(target, 50))
    assert second.offset == MIB
    second.write([NEW[MIB:]])
    assert second.finish()
    assert target.read_bytes() == NEW


def test_an_agent_killed_before_the_old_file_was_renamed_begins_anew(target: Path) -> None:
    target.with_name("got.part.at").write_bytes(bytes(8))
    file = begun(target, None)
    assert file.offset == 0
    file.write([NEW])
    assert file.finish()
    assert target.read_bytes() == NEW


def test_a_partial_file_that_ends_before_its_mark_counts_as_far_as_it_goes(target: Path) -> None:
    target.with_name("got.part").write_bytes(NEW[:1000])
    target.with_name("got.part.at").write_bytes((2 * MIB).to_bytes(8, "little"))
    assert begun(target, None).offset == 1000


def test_a_wrong_download_leaves_neither_file_nor_mark(target: Path) -> None:
    file = begun(target, old(target, len(NEW)))
    file.write([bytes(len(NEW))])
    assert not file.finish()
    assert list(target.parent.iterdir()) == []
