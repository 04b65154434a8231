"""sklearnexample: A Flower / scikit-learn app."""

import numpy as np
from sklearn.linear_model import LogisticRegression

N_FEATURES, N_CLASSES = 4, 3


def load_data(partition_id: int, num_partitions: int):
    rng = np.random.default_rng(partition_id)
    y = np.arange(60) % N_CLASSES
    x = rng.normal(size=(60, N_FEATURES)) + y[:, None]
    return x[:48], x[48:], y[:48], y[48:]


def get_model(penalty: str, local_epochs: int):
    return LogisticRegression(max_iter=local_epochs, warm_start=True)


def get_model_params(model):
    return [model.coef_, model.intercept_] if model.fit_intercept else [model.coef_]


def set_model_params(model, params):
    model.coef_ = params[0]
    if model.fit_intercept:
        model.intercept_ = params[1]
    return model


def set_initial_params(model):
    model.classes_ = np.arange(N_CLASSES)
    model.coef_ = np.zeros((N_CLASSES, N_FEATURES))
    if model.fit_intercept:
        model.intercept_ = np.zeros((N_CLASSES,))
