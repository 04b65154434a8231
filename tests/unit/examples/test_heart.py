import hashlib
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

APP = Path(__file__).parents[3] / "examples" / "heart"


@pytest.fixture
def heart(monkeypatch):
    monkeypatch.syspath_prepend(str(APP))
    from heart import data, export, model

    yield data, model, export
    for name in [name for name in sys.modules if name.split(".")[0] == "heart"]:
        del sys.modules[name]


def read_all(data):
    return {name: data.read(APP / "data" / f"{name}.csv") for name in data.HOSPITALS}


def test_the_files_are_the_ones_described():
    for line in (APP / "data" / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((APP / "data" / name).read_bytes()).hexdigest() == digest


def test_rows_per_hospital_and_missing_values_are_as_published(heart):
    data, _, _ = heart
    rows = read_all(data)
    assert [len(y) for _, y in rows.values()] == [304, 293, 123, 200]
    assert [int(y.sum()) for _, y in rows.values()] == [139, 106, 115, 149]
    chol = data.COLUMNS.index("chol")
    assert np.isnan(rows["switzerland"][0][:, chol]).all()  # Zurich and Basel did not measure it
    assert not any((x[:, chol] == 0).any() for x, _ in rows.values())


def test_no_column_learns_from_its_own_fold(heart):
    data, model, _ = heart
    _, y = read_all(data)["cleveland"]
    seen, fold = model.seen_by(y), data.folds(y, model.FOLDS)
    assert not seen[np.arange(len(y)), fold].any()
    assert seen[:, -1].all()
    assert (seen.sum(axis=1) == model.FOLDS).all()


def test_the_fit_is_the_regularised_logistic_regression(heart):
    data, model, _ = heart
    x, y = read_all(data)["cleveland"]
    rows = (data.features(x), y)
    start = model.initial()
    weight, bias = model.fit(
        start["weight"].astype(float), start["bias"].astype(float), rows, steps=20000, rate=0.5, l2=0.01
    )
    reference = LogisticRegression(C=1 / (0.01 * len(y)), tol=1e-8, max_iter=10_000).fit(*rows)
    np.testing.assert_allclose(weight[:, -1], reference.coef_[0], atol=1e-3)
    np.testing.assert_allclose(bias[-1], reference.intercept_[0], atol=1e-3)


def test_scores_agree_with_scikit_learn(heart):
    data, model, _ = heart
    _, y = read_all(data)["vabeach"]
    p = np.random.default_rng(1).random(len(y)).round(1)
    got = model.scores(p, y)
    assert got["auc"] == pytest.approx(roc_auc_score(y, p))
    assert got["balanced-accuracy"] == pytest.approx(balanced_accuracy_score(y, p > 0.5))
    assert np.isnan(model.scores(p[:8], np.array([1, 1, 1, 1, 1, 1, 0, 0.0]))["auc"])


def test_the_served_graph_agrees_with_the_model(heart):
    data, model, export = heart
    rng = np.random.default_rng(7)
    arrays = {name: rng.normal(size=a.shape).astype(np.float32) for name, a in model.initial().items()}
    session = onnxruntime.InferenceSession(export.graph(arrays).SerializeToString())
    for x, _ in read_all(data).values():
        want = model.sigmoid(data.features(x) @ arrays["weight"][:, -1] + arrays["bias"][-1])
        np.testing.assert_allclose(session.run(None, {"x": x.astype(np.float32)})[0][:, 0], want, atol=1e-5)
