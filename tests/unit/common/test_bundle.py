"""The app archive: packed one way; what is hostile is refused, never rewritten."""

import contextlib
import io
import stat
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.bundle import BundleLimits, app_digest, pack, read_bundle, unpack
from common.errors import BadInput, PlatformError, QuotaExceeded

SMALL = BundleLimits(archive_bytes=5000, file_bytes=2000, total_bytes=3000, files=5, ratio=10, ratio_from=100)


def archive(*entries, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        for name, data in entries:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            info.compress_type = method
            made.writestr(info, data)
    return buffer.getvalue()


def special(name, mode):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.fixture
def app(tmp_path):
    root = tmp_path / "app"
    (root / "pkg" / "__pycache__").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "pyproject.toml").write_text("[project]\nname='x'\n")
    (root / "pkg" / "a.py").write_text("x = 1\n")
    (root / "pkg" / "__pycache__" / "a.pyc").write_bytes(b"no")
    (root / ".git" / "config").write_text("no")
    (root / "patients.csv").write_text("id\n1\n")
    (root / "weights.bin").write_bytes(bytes(2 << 20))
    return root


def test_only_what_the_app_is_made_of_is_packed_and_the_rest_is_named(app):
    skipped = {}
    data = pack(app, on_skip=lambda path, why: skipped.setdefault(path, why))
    assert list(read_bundle(data).files) == ["pkg/a.py", "pyproject.toml"]
    assert sorted(skipped) == ["patients.csv", "weights.bin"]


def test_the_same_files_give_the_same_bytes_and_digest(app, tmp_path):
    first = pack(app)
    (app / "pkg" / "a.py").touch()
    assert pack(app) == first
    opened = read_bundle(first)
    assert unpack(first, tmp_path / "out") == opened.digest
    assert (tmp_path / "out" / "pkg" / "a.py").read_text() == "x = 1\n"
    assert opened.pyproject.startswith("[project]")


def test_the_digest_is_of_paths_and_contents_and_not_of_the_zip():
    stored = archive(("a.py", "1"), ("b.py", "2"), method=zipfile.ZIP_STORED)
    packed = archive(("b.py", "2"), ("a.py", "1"))
    assert read_bundle(stored).digest == read_bundle(packed).digest
    assert read_bundle(stored).digest != read_bundle(archive(("a.py", "1"), ("c.py", "2"))).digest
    # printf 'a.py %s\n' "$(printf 1 | sha256sum | cut -c-64)" | sha256sum
    one = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert app_digest({"a.py": one}) == "38665e016740494a46ab3e0b7cdab86de3e1ed6dc2e149168cc6e48b405697b5"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.py",
        "/etc/passwd",
        "a/../../b",
        "a//b",
        "./a",
        "a\\b",
        "C:/x",
        "a/./b",
        "a\x01b",
        "cafe\u0301.py",
        "a" * 300,
    ],
)
def test_a_name_that_is_not_plain_refuses_the_whole_archive(name, tmp_path):
    data = archive(("ok.py", "1"), (name, "2"))
    with pytest.raises(BadInput):
        unpack(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_only_regular_files_are_taken(mode):
    with pytest.raises(BadInput, match="no regular file"):
        read_bundle(archive((special("a", mode | 0o777), "/etc/passwd")))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a.py", "a.py"), ("a.py", "A.py"), ("stra\u00dfe.py", "STRASSE.py"), ("a", "a/b")])
def test_two_names_for_one_file_refuse_the_archive(names):
    with pytest.raises(BadInput):
        read_bundle(archive(*((name, "x") for name in names)))


def test_every_limit_is_held():
    for data in (
        bytes(5001),
        archive(*((f"{i}.py", "x") for i in range(6))),
        archive(("a.py", "x" * 2001), method=zipfile.ZIP_STORED),
        archive(("a", "x" * 1900), ("b", "y" * 1900), method=zipfile.ZIP_STORED),
        archive(("bomb", bytes(1999))),
    ):
        with pytest.raises(QuotaExceeded):
            read_bundle(data, SMALL)


def test_a_size_that_lies_is_found_by_counting():
    data = bytearray(archive(("a.py", b"x" * 1000), method=zipfile.ZIP_STORED))
    at = data.find(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    with pytest.raises(PlatformError):
        read_bundle(bytes(data), SMALL)


@given(st.data())
def test_a_broken_archive_raises_nothing_but_our_errors(data):
    raw = bytearray(archive(("a.py", "x = 1"), ("pyproject.toml", "[project]")))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PlatformError):
        read_bundle(bytes(raw[: data.draw(st.integers(0, len(raw)))]), SMALL)
