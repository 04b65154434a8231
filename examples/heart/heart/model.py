"""Cross-validated logistic regression: column f of the weights never sees fold f of any hospital.

All columns train side by side in one federated run.  The last column sees every row: it is the model that is served.
The others exist so that every prediction scored below is *out of fold*, at every hospital, for the federated model too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heart.data import FEATURES, Floats, folds

FOLDS = 5
COLUMNS = FOLDS + 1


def initial() -> dict[str, NDArray[np.float32]]:
    """Return the untrained weights, shape (FEATURES, COLUMNS), and bias, shape (COLUMNS,)."""
    return {"weight": np.zeros((FEATURES, COLUMNS), np.float32), "bias": np.zeros(COLUMNS, np.float32)}


def seen_by(y: Floats) -> Floats:
    """Return which column may learn from which row, shape (n, COLUMNS), 1 or 0."""
    return (folds(y, FOLDS)[:, None] != np.arange(COLUMNS)[None, :]).astype(np.float64)


def fit(
    weight: Floats, bias: Floats, rows: tuple[Floats, Floats], *, steps: int, rate: float, l2: float
) -> tuple[Floats, Floats]:
    """Return weights and bias after ``steps`` full-batch gradient steps of every column on its own rows."""
    design, y = rows
    seen = seen_by(y)
    for _ in range(steps):
        error = (sigmoid(design @ weight + bias) - y[:, None]) * seen / seen.sum(axis=0)
        weight = weight - rate * (design.T @ error + l2 * weight)
        bias = bias - rate * error.sum(axis=0)
    return weight, bias


def out_of_fold(weight: Floats, bias: Floats, rows: tuple[Floats, Floats]) -> Floats:
    """Return one probability a row, shape (n,), each from the column that never saw the row."""
    design, y = rows
    return sigmoid(design @ weight + bias)[np.arange(len(y)), folds(y, FOLDS)]


def majority(y: Floats) -> Floats:
    """Return the commoner class of the folds that exclude each row, shape (n,), 1 or 0: knowing no patient."""
    fold = folds(y, FOLDS)
    return np.array([float(y[fold != f].mean() > 0.5) for f in range(FOLDS)])[fold]


def log_loss(p: Floats, y: Floats) -> float:
    """Return the mean negative log-likelihood, in nats."""
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))


def scores(p: Floats, y: Floats) -> dict[str, float]:
    """Return accuracy, balanced accuracy and AUC (NaN with fewer than five of a class) of probabilities ``p``."""
    yes, no = p[y == 1], p[y == 0]
    recalls = [
        float((part > 0.5).mean() if positive else (part <= 0.5).mean())
        for part, positive in ((yes, True), (no, False))
        if len(part)
    ]
    auc = float("nan")
    if min(len(yes), len(no)) >= 5:  # fewer say nothing
        wins = (yes[:, None] > no[None, :]).mean() + 0.5 * (yes[:, None] == no[None, :]).mean()
        auc = float(wins)
    return {"accuracy": float(((p > 0.5) == (y == 1)).mean()), "balanced-accuracy": float(np.mean(recalls)), "auc": auc}


def sigmoid(z: Floats) -> Floats:
    """Return the logistic function without overflow."""
    return 0.5 * (1 + np.tanh(z / 2))
