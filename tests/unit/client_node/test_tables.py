"""CSV and Parquet as registered: shapes of good files, refusals of bad ones."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client_node.services.datasets import describe, has_changed
from client_node.services.tables import read_table
from common.errors import BadInput, PlatformError, QuotaExceeded


def csv(tmp_path: Path, data: str | bytes, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def shape(path: Path) -> tuple[int, list[tuple[str, str]]]:
    table = read_table(path)
    return table.rows, [(column.name, column.type) for column in table.columns]


def test_column_types_are_the_narrowest_that_fit_all_rows(tmp_path: Path) -> None:
    text = "i,f,b,s,mixed,gone\n1,1.5,true,x,1,\n-2,3,FALSE,2,true,NA\n3,1e-3,true,,2,?\n"
    assert shape(csv(tmp_path, text)) == (
        3,
        [("i", "int"), ("f", "float"), ("b", "bool"), ("s", "string"), ("mixed", "string"), ("gone", "string")],
    )


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_usual_delimiters_are_seen_in_the_header(tmp_path: Path, mark: str) -> None:
    assert shape(csv(tmp_path, f"a{mark}b\n1{mark}2\n")) == (1, [("a", "int"), ("b", "int")])


def test_quotes_blank_lines_a_byte_order_mark_and_windows_line_ends_are_understood(tmp_path: Path) -> None:
    data = '\ufeffname,note\r\n"Å, B","two\r\nlines"\r\n\r\nC,""\r\n'
    assert shape(csv(tmp_path, data)) == (2, [("name", "string"), ("note", "string")])


def test_a_nameless_index_column_gets_a_name(tmp_path: Path) -> None:
    assert shape(csv(tmp_path, ",x\n0,1\n"))[1] == [("unnamed_0", "int"), ("x", "int")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"a,b\n", "no rows"),
        (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 fields, the header has 2"),
        (b"a,b\n1\n", "line 2 has 1 fields"),
        (b"a,a\n1,2\n", "names a column twice: a"),
        (b"1,2\n3,4\n", "must name the columns"),
        (b"a,b\n\xff\xfe,2\n", "not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "not UTF-8"),
        (b"a,b\n\x00,2\n", "NUL"),
        (b'a,b\n"1,2\n', "not well-formed"),
        (b"PAR1nothing", "not a readable Parquet"),
    ],
)
def test_a_file_that_is_no_sound_table_is_refused_in_words(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_table(csv(tmp_path, data))


def test_a_field_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuotaExceeded, match="field of over"):
        read_table(csv(tmp_path, "a,b\n1," + "x" * 2_000_000 + "\n"))


def test_a_file_of_another_kind_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="neither CSV nor Parquet"):
        read_table(csv(tmp_path, "a,b\n1,2\n", "t.xyz"))
    assert read_table(csv(tmp_path, "a,b\n1,2\n", "t.xyz"), "csv").rows == 1


def test_parquet_shows_its_own_types(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": pa.array([1, 2, 3], pa.int32()), "b": [0.5, None, 1.0]}), path)
    assert shape(path) == (3, [("a", "int32"), ("b", "double")])


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": list(range(1000))}), path)
    whole = path.read_bytes()
    chance = random.Random(1)
    for _ in range(100):
        hurt = bytearray(whole)
        for _ in range(8):
            hurt[chance.randrange(len(whole) - 400, len(whole))] = chance.randrange(256)
        path.write_bytes(hurt)
        with contextlib.suppress(PlatformError):
            read_table(path)
    path.write_bytes(whole[:-20])
    with pytest.raises(BadInput):
        read_table(path)


@given(st.binary(max_size=400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_arbitrary_bytes_raise_only_our_errors(tmp_path: Path, data: bytes) -> None:
    with contextlib.suppress(PlatformError):
        assert read_table(csv(tmp_path, data)).rows > 0


def dataset(path: Path, node_dir: Path, **changes: object):
    return describe("ecg", path, **({"node_dir": node_dir, "now": 5.0, "max_bytes": 1 << 20} | changes))


def test_a_dataset_keeps_the_facts_and_not_the_data(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b\n1,2\n")
    found = dataset(path, tmp_path / "node")
    # sha256sum of the eight bytes "a,b\n1,2\n"
    assert found.digest == "492d5ea496056f1a6a6592241032fab764c321596317930b4fa0e1e8bc3b7470"
    assert (found.path, found.rows, found.size, found.format) == (str(path), 1, 8, "csv")


def test_a_dataset_must_be_a_readable_file_outside_the_nodes_directory(tmp_path: Path) -> None:
    node = tmp_path / "node"
    node.mkdir()
    fifo = tmp_path / "fifo.csv"
    os.mkfifo(fifo)
    for path, words in (
        (tmp_path / "nothing.csv", "No such file"),
        (tmp_path, "is a directory"),
        (fifo, "no regular file"),
        (Path("/dev/zero"), "no regular file"),
        (csv(node, "a\n1\n"), "inside the node's own directory"),
    ):
        with pytest.raises(BadInput, match=words):
            dataset(path, node)
    link = tmp_path / "link.csv"
    link.symlink_to(node / "t.csv")
    with pytest.raises(BadInput, match="inside the node's own directory"):
        dataset(link, node)


def test_a_file_over_the_nodes_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(QuotaExceeded, match="at most"):
        dataset(path, tmp_path / "node")


def test_a_file_that_was_changed_or_removed_is_noticed(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b\n1,2\n")
    found = dataset(path, tmp_path / "node")
    assert not has_changed(found)
    csv(tmp_path, "a,b\n1,2\n3,4\n")
    assert has_changed(found)
    path.unlink()
    assert has_changed(found)
