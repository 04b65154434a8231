"""A linear model on generated data, one part for each node."""

import numpy as np

FEATURES = 5


def load_data(partition_id: int, num_partitions: int):
    rng = np.random.default_rng(100 + partition_id)
    x = rng.normal(size=(40 + 10 * partition_id, FEATURES)).astype(np.float32)
    y = x @ np.arange(1, FEATURES + 1, dtype=np.float32) + 0.5
    return x, y.astype(np.float32)


def initial():
    return [np.zeros(FEATURES, np.float32), np.zeros(1, np.float32)]


def loss_of(weights, bias, x, y):
    return float(np.mean((x @ weights + bias - y) ** 2))


def fit(weights, bias, x, y, lr, steps):
    for _ in range(steps):
        error = x @ weights + bias - y
        weights = weights - lr * (x.T @ error / len(y)).astype(np.float32)
        bias = bias - np.float32(lr) * error.mean(keepdims=True)
    return weights, bias
