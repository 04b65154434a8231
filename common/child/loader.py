"""Finds the app's objects as Flower does: its directory first on ``sys.path``, then ``module:attribute``."""

from __future__ import annotations

import importlib
import random
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from common.child.parent import Stop


def load(app_dir: str, component: str) -> Any:
    """Return the object that ``component`` names.

    Raises:
        Stop: ``component_not_found`` or ``missing_imports``; what the app's own code raises passes through.
    """
    if app_dir not in sys.path:
        sys.path.insert(0, app_dir)
    module_name, _, attributes = component.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise Stop("component_not_found", f"there is no module {module_name!r} in the app") from error
        raise Stop("missing_imports", f"the job's environment has no module {missing!r}") from error
    for name in attributes.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise Stop("component_not_found", f"module {module_name!r} has no attribute {attributes!r}") from error
    return found


def read_app(app_dir: Path) -> tuple[str, str, dict[str, Any]]:
    """Return serverapp, clientapp and the flattened configuration from the app's ``pyproject.toml``."""
    data = tomllib.loads((app_dir / "pyproject.toml").read_text(encoding="utf-8"))
    app = data.get("tool", {}).get("flwr", {}).get("app", {})
    try:
        components = app["components"]
        return components["serverapp"], components["clientapp"], _flatten(app.get("config", {}))
    except KeyError as error:
        raise Stop("component_not_found", f"pyproject.toml has no [tool.flwr.app] {error.args[0]}") from error


def _flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def seed_all(seed: int) -> None:
    """Seed the generators that apps use without naming one: random, numpy and, if the app loaded it, torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 the legacy generator is the one that apps forget to seed
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(seed % 2**63)
