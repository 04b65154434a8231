"""Prints, as JSON, the modules an app imports that this interpreter cannot find.  Runs by path, standard library only.

``python -I probe.py APP_DIR MODULE``.  Reads source text; imports and runs nothing of the app.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import resource
import sys
from pathlib import Path

MAX_FILES = 2000
MAX_BYTES = 4 * 1024 * 1024  # of one source file
GUARDS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def main(app_dir: Path, module: str) -> list[str]:
    """Return the missing top-level names, starting at ``module`` of ``app_dir``."""
    missing: set[str] = set()
    seen: set[Path] = set()
    queue = list(_files(app_dir, module))
    while queue and len(seen) < MAX_FILES:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in _imports(path, _package(app_dir, path)):
            local = list(_files(app_dir, name))
            if local:
                queue += local
            elif not _local(app_dir, name) and not _installed(name.partition(".")[0]):
                missing.add(name.partition(".")[0])
    return sorted(missing)


def _files(app_dir: Path, module: str) -> list[Path]:
    """Return the app's files that importing ``module`` would run: packages' ``__init__`` and the module."""
    found: list[Path] = []
    base = app_dir
    for part in module.split("."):
        base /= part
        found += [path for path in (base / "__init__.py", base.with_name(base.name + ".py")) if path.is_file()]
    return found


def _local(app_dir: Path, module: str) -> bool:
    return (app_dir / module.partition(".")[0]).is_dir()


def _package(app_dir: Path, path: Path) -> list[str]:
    parts = list(path.relative_to(app_dir).with_suffix("").parts)
    return parts[:-1]


def _imports(path: Path, package: list[str]) -> set[str]:
    if path.stat().st_size > MAX_BYTES:
        return set()
    try:
        tree = ast.parse(path.read_bytes(), filename=path.name)
    except (SyntaxError, ValueError, RecursionError):
        return set()  # the child itself will say where
    names: set[str] = set()
    _walk(tree.body, package, names)
    return names


def _walk(body: list[ast.stmt], package: list[str], names: set[str]) -> None:
    for node in body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(_from(node, package))
        elif isinstance(node, ast.Try) and _guarded(node):
            _walk([*node.orelse, *node.finalbody], package, names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            _walk(node.orelse, package, names)
        else:
            _walk(_inner(node), package, names)


def _inner(node: ast.AST) -> list[ast.stmt]:
    found: list[ast.stmt] = []
    for child in ast.iter_child_nodes(node):
        found += [child] if isinstance(child, ast.stmt) else _inner(child)
    return found


def _from(node: ast.ImportFrom, package: list[str]) -> set[str]:
    if node.level:
        base = package[: len(package) - node.level + 1]
        parts = [*base, *(node.module or "").split(".")] if node.module else base
        return {".".join([*parts, alias.name]) for alias in node.names} | ({".".join(parts)} if parts else set())
    module = node.module or ""
    return {module} | {f"{module}.{alias.name}" for alias in node.names if alias.name != "*"}


def _guarded(node: ast.Try) -> bool:
    for handler in node.handlers:
        if handler.type is None:
            return True
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        if any(isinstance(kind, ast.Name) and kind.id in GUARDS for kind in kinds):
            return True
    return False


def _installed(name: str) -> bool:
    if name in sys.stdlib_module_names or name in sys.builtin_module_names:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
    resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
