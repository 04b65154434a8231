"""What our sources never do."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from tests.architecture.tree import PACKAGES, ROOT, files, name, parsed, sources

UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
EVALUATORS = {"eval", "exec", "compile", "__import__"}
VAGUE = re.compile(r"(Manager|Helper|Utils?|Handler|Base)$")
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".cfg",
    ".cedar",
    ".cedarschema",
    ".proto",
    ".service",
    ".sh",
    ".mako",
    ".json",
    "",
}
MACHINE_PATHS = re.compile(r"(?<![\w.~$}])/(?:work|root|home/[a-z]|tmp/lab|Users)/")


def imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def evaluates(node: ast.Call) -> bool:
    if isinstance(node.func, ast.Name) and node.func.id in EVALUATORS:
        return True
    trusting = [k for k in node.keywords if k.arg == "allow_pickle" and getattr(k.value, "value", True)]
    return bool(trusting) or ast.unparse(node.func) == "torch.load"


def test_nothing_unpickles_or_evaluates():
    found = []
    for path in sources(*PACKAGES):
        tree = parsed(path)
        found += [f"{name(path)}: {module}" for module in imported(tree) & UNPICKLERS]
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        found += [f"{name(path)}:{node.lineno}" for node in calls if evaluates(node)]
    assert not found


def test_no_class_has_a_vague_name():
    classes = [
        (path, node.name)
        for path in sources(*PACKAGES)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ClassDef)
    ]
    assert classes
    assert not [f"{name(path)}: {found}" for path, found in classes if VAGUE.search(found)]


def test_every_module_says_what_it_is_for():
    assert not [name(path) for path in sources(*PACKAGES) if not ast.get_docstring(parsed(path))]


def test_no_path_of_one_machine_is_written_down():
    found = []
    for path in files():
        if path.suffix in TEXT and path != Path(__file__):
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if MACHINE_PATHS.search(line):
                    found.append(f"{name(path)}:{number}")
    assert not found


def test_only_children_import_flower():
    """A second look at what lint-imports checks: it does not see imports inside functions of excluded files."""
    elsewhere = [
        name(path)
        for path in sources(*PACKAGES)
        if "flwr" in imported(parsed(path)) and not name(path).startswith("common/child/")
    ]
    # Skeletons are texts of apps, copied for the user and never imported by us.
    assert not [found for found in elsewhere if "/skeletons/" not in found]


def test_the_package_lists_what_it_ships():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(PACKAGES)
    assert set(project["tool"]["importlinter"]["root_packages"]) == set(PACKAGES)
