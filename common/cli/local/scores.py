"""The heart example's closing line, read and laid out: per hospital, the federated model beside two others.

What an app prints is a tenant's text: it is parsed strictly enough to be shown, and never trusted further.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TypedDict

MARK = "HANSA-RESULT "
MODELS = ("federated", "local", "majority")
MEASURES = (("accuracy", "acc"), ("balanced_accuracy", "bal"), ("auc", "AUC"))
Scores = dict[str, dict[str, float | None]]


class Hospital(TypedDict):
    """One hospital's out-of-fold scores."""

    name: str
    n: int
    models: Scores


def read_scores(log: str, names: Mapping[int, str]) -> list[Hospital]:
    """Return the hospitals of the last result line of ``log``, named by partition; none, if there is no such line."""
    lines = [line for line in log.splitlines() if line.startswith(MARK)]
    if not lines:
        return []
    try:
        rows = json.loads(lines[-1].removeprefix(MARK))["hospitals"]
        return [
            Hospital(
                name=str(row.get("name") or names.get(row["partition"], row["partition"])),
                n=int(row["n"]),
                models={model: {key: _score(row["models"][model].get(key)) for key, _ in MEASURES} for model in MODELS},
            )
            for row in rows
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def header() -> list[str]:
    """Return the table's header."""
    return ["HOSPITAL", "n"] + [f"{model.upper()} {short}" for model in MODELS for _, short in MEASURES]


def table_row(hospital: Hospital) -> list[str]:
    """Return one hospital as a row of the table."""
    cells = [_shown(hospital["models"][model][key]) for model in MODELS for key, _ in MEASURES]
    return [hospital["name"], str(hospital["n"]), *cells]


def _score(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _shown(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
