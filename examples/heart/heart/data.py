"""The thirteen measurements: reading a hospital's file, and the features made of them.

Categories become the codes of the original UCI files, so that a served request is thirteen plain numbers, NaN where
nothing was measured.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from flwr.app import Context
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HOSPITALS = ("cleveland", "hungary", "switzerland", "vabeach")
COLUMNS = (
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalch",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
)
CODES: dict[str, dict[str, float]] = {
    "sex": {"Female": 0, "Male": 1},
    "cp": {"typical angina": 1, "atypical angina": 2, "non-anginal": 3, "asymptomatic": 4},
    "fbs": {"FALSE": 0, "TRUE": 1},
    "restecg": {"normal": 0, "st-t abnormality": 1, "lv hypertrophy": 2},
    "exang": {"FALSE": 0, "TRUE": 1},
    "slope": {"upsloping": 1, "flat": 2, "downsloping": 3},
    "thal": {"normal": 3, "fixed defect": 6, "reversable defect": 7},
}
# Centre and scale are round clinical figures, fixed in advance: no hospital's statistics leave it for this.
NUMERIC: dict[str, tuple[float, float]] = {
    "age": (54, 10),
    "sex": (0.5, 0.5),
    "trestbps": (130, 20),
    "chol": (240, 60),
    "fbs": (0.5, 0.5),
    "thalch": (140, 25),
    "exang": (0.5, 0.5),
    "oldpeak": (1, 1),
    "ca": (0.5, 1),
}
ONE_HOT = tuple((name, code) for name in ("cp", "restecg", "slope", "thal") for code in CODES[name].values())
FEATURES = len(NUMERIC) + len(COLUMNS) + len(ONE_HOT)


def path_of(context: Context) -> Path:
    """Return this node's file: the dataset the node was given, else (in simulation) the file of its partition."""
    given = context.node_config.get("data.heart")
    if given is not None:
        return Path(str(given))
    name = HOSPITALS[int(context.node_config["partition-id"]) % len(HOSPITALS)]
    return Path(__file__).resolve().parent.parent / "data" / f"{name}.csv"


def read(path: Path) -> tuple[Floats, Floats]:
    """Return measurements, shape (n, 13), NaN where missing, and labels, shape (n,), 1 = diseased vessels."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    x = np.array([[_number(name, row[name]) for name in COLUMNS] for row in rows])
    return x, np.array([float(row["num"]) > 0 for row in rows], dtype=np.float64)


def features(x: Floats) -> Floats:
    """Return the design matrix, shape (n, FEATURES): scaled values, what is missing, and one column a category."""
    numeric = [(x[:, COLUMNS.index(name)] - centre) / scale for name, (centre, scale) in NUMERIC.items()]
    one_hot = [x[:, COLUMNS.index(name)] == code for name, code in ONE_HOT]
    return np.column_stack([np.nan_to_num(np.column_stack(numeric)), np.isnan(x), np.column_stack(one_hot)])


def folds(y: Floats, count: int) -> NDArray[np.int64]:
    """Return each row's fold, 0 … count-1, both classes dealt evenly, the same on every call."""
    fold = np.empty(len(y), dtype=np.int64)
    for label in (0.0, 1.0):
        rows = np.flatnonzero(y == label)
        fold[rows] = np.arange(len(rows)) % count
    return fold


def _number(name: str, text: str) -> float:
    if not text:
        return float("nan")
    return CODES[name][text] if name in CODES else float(text)
