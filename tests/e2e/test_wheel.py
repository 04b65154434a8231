"""The wheel in a clean environment that holds what one extra asks for, and nothing else.

Installing a hundred wheels again would take minutes and a network; instead the environment is filled with links to the
distributions that the wheel's own metadata require, found as pip finds them.  What metadata forget is missing there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.tree import PACKAGES, ROOT, files, name

pytestmark = pytest.mark.e2e

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
IMPORT_ALL = """
import importlib, pkgutil, sys
for package in sys.argv[1:]:
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        # Children are started by path, skeletons are texts, Alembic runs its environment itself.
        if not any(part in found.name for part in ("common.child.", "__main__", ".skeletons", ".migrations.")):
            importlib.import_module(found.name)
print("all imported")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (built,) = folder.glob("hansa-*.whl")
    return built


def required(dist: Distribution, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for text in dist.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def closure(dist: Distribution, extra: str) -> dict[str, Distribution]:
    """Every distribution that installing ``dist[extra]`` would install, from those that are installed here."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(required(dist, frozenset({extra})))
    while waiting:
        wanted = waiting.pop()
        if wanted in seen:
            continue
        seen.add(wanted)
        try:
            found[wanted[0]] = distribution(wanted[0])
        except PackageNotFoundError:
            pytest.fail(f"{wanted[0]} is required but not in the lock")
        waiting += required(found[wanted[0]], wanted[1])
    return found


def link(dist: Distribution, site: Path) -> None:
    """Make one installed distribution importable from ``site``."""
    home = Path(str(dist.locate_file("")))
    for top in {file.parts[0] for file in dist.files or () if file.parts[0] not in {"..", "__pycache__"}}:
        if not (site / top).exists():
            (site / top).symlink_to(home / top)


def environment(folder: Path, wheel: Path, extra: str) -> Path:
    """Return the ``bin`` of a new environment with the wheel and what ``extra`` requires."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    install = ["--python", folder / "bin" / "python", "install", "--no-deps", "--no-index", "--quiet", wheel]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *install], check=True)
    (metadata,) = site.glob("hansa-*.dist-info")
    for dist in closure(PathDistribution(metadata), extra).values():
        link(dist, site)
    return folder / "bin"


@pytest.fixture(scope="module")
def node_bin(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("node"), wheel, "node")


def run(program: Path, *arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    """Run as a stranger would: nothing of this checkout in the environment or the working directory."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)


def test_the_wheel_holds_every_file_of_the_packages_and_no_test(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    ours = {name(path) for path in files() if name(path).split("/")[0] in PACKAGES}
    example = {f"common/cli/{name(path)}" for path in files() if name(path).startswith("examples/heart/")}
    assert ours | example <= held
    assert not [n for n in held - ours - example if not n.split("/")[0].endswith(".dist-info")]


def test_the_demo_finds_its_app_in_the_wheel(node_bin: Path, tmp_path: Path):
    code = "from common.cli.local.layout import default_app; print(default_app())"
    said = run(node_bin / "python", "-P", "-c", code, home=tmp_path)
    assert said.stdout.strip().endswith("common/cli/examples/heart"), said.stderr


def test_hansa_starts_where_only_the_nodes_requirements_are(node_bin: Path, tmp_path: Path):
    for arguments, shown in ((["--help"], "hansa"), (["node", "--help"], "join"), (["--version"], VERSION)):
        said = run(node_bin / "hansa", *arguments, home=tmp_path)
        assert said.returncode == 0, said.stderr
        assert shown in said.stdout
    said = run(node_bin / "hansa", "coordinator", "serve", "--dir", tmp_path / "c", home=tmp_path)
    assert said.returncode != 0
    assert "hansa[coordinator]" in said.stderr  # what is missing is named, with the command that mends it
    assert "Traceback" not in said.stderr


def test_the_service_unit_starts_the_installed_agent(node_bin: Path, tmp_path: Path):
    said = run(node_bin / "hansa", "node", "install-service", "--dry-run", "--dir", tmp_path / "node", home=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "[Service]" in said.stdout
    assert str(node_bin) in said.stdout
    assert str(ROOT) not in said.stdout


@pytest.mark.parametrize(
    ("extra", "packages"),
    [("node", ("common", "policies", "client_node")), ("coordinator", ("common", "policies", "coordinator"))],
)
def test_the_extra_names_all_that_its_side_imports(wheel: Path, tmp_path: Path, extra: str, packages: tuple[str, ...]):
    bin_ = environment(tmp_path / "env", wheel, extra)
    said = run(bin_ / "python", "-P", "-c", IMPORT_ALL, *packages, home=tmp_path)
    assert said.stdout == "all imported\n", said.stderr


def test_a_node_needs_no_torch(wheel: Path, tmp_path: Path, node_bin: Path):
    said = run(node_bin / "python", "-P", "-c", "import torch", home=tmp_path)
    assert "No module named 'torch'" in said.stderr
