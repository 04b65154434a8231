"""The house stands as docs/architecture.md and pyproject.toml say."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.architecture.tree import GENERATED, PACKAGES, ROOT, files, name

MAX_LINES = 300


@pytest.mark.parametrize("package", PACKAGES)
def test_our_top_level_names_are_ours_alone(package: str, tmp_path: Path):
    """Plain top-level names may collide with another wheel's; here they do not, from whatever folder one starts."""
    assert set(packages_distributions().get(package, ["hansa"])) == {"hansa"}
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin == str(ROOT / package / "__init__.py")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise SystemExit('a stranger was imported')")
    ask = [sys.executable, "-c", f"import {package}; print({package}.__file__)"]
    said = subprocess.run(
        ask, cwd=tmp_path, env={**os.environ, "PYTHONSAFEPATH": "1"}, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == spec.origin


def test_every_folder_is_named_in_the_architecture():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = set()
    for path in files():
        parts = path.relative_to(ROOT).parts[:-1]
        if parts and not parts[0].startswith("."):
            folders.add(f"{parts[0]}/")
        if len(parts) > 1 and parts[0] in PACKAGES:
            folders.add("/".join(parts[:2]))
    missing = sorted(folder for folder in folders if f"`{folder}" not in text)
    assert not missing, f"docs/architecture.md does not name {', '.join(missing)}"


def test_no_file_is_longer_than_a_reader_can_hold():
    long = []
    for path in files():
        if path.suffix in {".py", ".cedar", ".html", ".css", ".js", ".sh"} and not path.name.endswith(GENERATED):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > MAX_LINES:
                long.append(f"{name(path)}: {lines}")
    assert not long, f"over {MAX_LINES} lines: {', '.join(long)}"


def test_imports_go_one_way():
    program = Path(sys.executable).with_name("lint-imports")
    said = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_generated_messages_are_those_of_the_proto(tmp_path: Path):
    arguments = ["-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", "common/wire/hansa_node.proto"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], cwd=ROOT, check=True)
    for generated in ("hansa_node_pb2.py", "hansa_node_pb2.pyi"):
        fresh = (tmp_path / "common" / "wire" / generated).read_text()
        assert (ROOT / "common" / "wire" / generated).read_text() == fresh, "run `make proto`"


def test_the_lock_has_hashes_and_no_index():
    for lock in sorted(ROOT.glob("requirements*.txt")):
        text = lock.read_text()
        pins = re.findall(r"^([^\s#-][^\s]*)==([^\s;]+)", text, re.MULTILINE)
        blocks = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
        unhashed = [block.split()[0] for block in blocks if block.strip() and "--hash=sha256:" not in block]
        assert pins
        assert not unhashed
        assert "index-url" not in text
        assert "://" not in text


def test_the_light_lock_has_the_versions_of_the_full_one():
    def pins(lock: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE))

    full = pins("requirements-dev.txt")
    for lock in ("requirements.txt", "requirements-build.txt"):
        assert pins(lock).items() <= full.items()
    assert "torch" in full
    assert "torch" not in pins("requirements.txt")
