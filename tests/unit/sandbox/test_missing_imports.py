"""What an app lacks in its environment is found without running it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from common.sandbox import missing_imports, missing_imports_async
from common.sandbox.environment import prefixes, variables


def app(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def missing(folder: Path, component: str = "main:app") -> tuple[str, ...]:
    return missing_imports(folder, sys.executable, component)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import json, numpy.linalg\nfrom flwr.app import Message", ()),
        ("import nowhere_a.b\nfrom nowhere_b import c", ("nowhere_a", "nowhere_b")),
        ("def f():\n    import nowhere_a", ("nowhere_a",)),
        ("try:\n    import nowhere_a\nexcept ImportError:\n    nowhere_a = None", ()),
        ("try:\n    import nowhere_a\nexcept (ValueError, ModuleNotFoundError):\n    pass", ()),
        ("try:\n    import nowhere_a\nexcept ValueError:\n    pass", ("nowhere_a",)),
        ("try:\n    import json\nexcept ImportError:\n    pass\nelse:\n    import nowhere_a", ("nowhere_a",)),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nowhere_a", ()),
        ("import typing\nif typing.TYPE_CHECKING:\n    import nowhere_a\nelse:\n    import nowhere_b", ("nowhere_b",)),
        ("if True:\n    with open('x'):\n        import nowhere_a", ("nowhere_a",)),
        ("raise SystemExit('never run')", ()),
        ("def broken(:", ()),
        ("match 1:\n    case 1:\n        import nowhere_a", ("nowhere_a",)),
    ],
)
def test_imports_are_read_from_the_source(tmp_path: Path, source: str, expected: tuple[str, ...]) -> None:
    assert missing(app(tmp_path, main=source)) == expected


def test_the_apps_own_modules_are_followed_and_count_as_there(tmp_path: Path) -> None:
    folder = app(
        tmp_path,
        main="from pack.inner import thing\nimport beside\nimport space.deep",
        pack____init__="",
        pack__inner="from . import other\nfrom .third import x",
        pack__other="import nowhere_a",
        pack__third="from ..beside import nothing\nimport nowhere_b",
        beside="import nowhere_c",
        space__deep="import nowhere_d",
        unused="import nowhere_e",
    )
    assert missing(folder) == ("nowhere_a", "nowhere_b", "nowhere_c", "nowhere_d")


def test_nothing_of_the_app_runs(tmp_path: Path) -> None:
    folder = app(tmp_path, main="open('ran', 'w')\nimport json", json="open('ran', 'w')", pack____init__="1/0")
    assert missing(folder, "main:app") == ()
    assert not (tmp_path / "ran").exists()
    assert not Path("ran").exists()


def test_a_huge_file_and_deep_nesting_are_survived(tmp_path: Path) -> None:
    folder = app(
        tmp_path, main="import deep, huge, nowhere_a", deep="x = " + "(" * 5000 + ")" * 5000, huge="#" * 5_000_000
    )
    assert missing(folder) == ("nowhere_a",)


async def test_the_test_apps_need_nothing_that_is_missing() -> None:
    apps = Path(__file__).parents[2] / "apps"
    assert await missing_imports_async(apps / "torch_app", sys.executable, "pytorchexample.server_app:app") == ()
    assert await missing_imports_async(apps / "missing", sys.executable, "missing_app:client") == (
        "tensorflow_of_another_world",
    )


def test_an_environment_is_its_folder_and_the_installation_behind_it() -> None:
    found = prefixes(sys.executable)
    assert Path(sys.prefix) in found or Path(sys.prefix) == Path("/usr")
    assert any(Path(sys.base_prefix).resolve() == folder.resolve() for folder in (*found, Path("/usr")))
    assert Path("/") not in found


def test_of_our_environment_only_thread_counts_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("MKL_NUM_THREADS", "$(evil)")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LD_PRELOAD", "/tmp/evil.so")
    given = variables("/tmp")
    assert given["OMP_NUM_THREADS"] == "3"
    assert not {"MKL_NUM_THREADS", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD"} & set(given)
    assert given["HOME"] == given["TMPDIR"] == "/tmp"
