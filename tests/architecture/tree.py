"""The repository's own files, as the architecture tests look at them."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("coordinator", "client_node", "common", "policies")
GENERATED = ("_pb2.py", "_pb2.pyi")
_SKIPPED = {".git", ".venv", "__pycache__", "build", "dist", ".wheelhouse", "node_modules"}


@cache
def files() -> tuple[Path, ...]:
    """Every file that belongs to the repository, ignored ones left out."""
    asked = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        found = subprocess.run(asked, capture_output=True, check=True).stdout.decode().split("\0")
        paths = [ROOT / name for name in found if name]
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        paths = [path for path in ROOT.rglob("*") if not _SKIPPED & set(path.relative_to(ROOT).parts)]
    return tuple(sorted(path for path in paths if path.is_file()))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def sources(*folders: str) -> list[Path]:
    """Python files below ``folders`` that people wrote."""
    wanted = [path for path in files() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders]
    return [path for path in wanted if not path.name.endswith(GENERATED)]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))
