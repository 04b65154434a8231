"""A 784-32-10 perceptron that takes one gradient step a round: the load of the simulation benchmark."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

BATCH = 32

client = ClientApp()
server = ServerApp()
_data: dict[int, tuple] = {}


def data_of(partition: int):
    if partition not in _data:
        rng = np.random.default_rng(partition)
        _data[partition] = rng.random((BATCH, 784), np.float32), rng.integers(0, 10, BATCH)
    return _data[partition]


def step(params, x, y, lr=0.1):
    w1, b1, w2, b2 = params
    hidden = np.maximum(x @ w1 + b1, 0)
    logits = hidden @ w2 + b2
    logits -= logits.max(1, keepdims=True)
    probs = np.exp(logits)
    probs /= probs.sum(1, keepdims=True)
    rows = np.arange(len(y))
    loss = float(-np.log(probs[rows, y] + 1e-9).mean())
    probs[rows, y] -= 1
    probs /= len(y)
    back = (probs @ w2.T) * (hidden > 0)
    w2 -= lr * (hidden.T @ probs)
    b2 -= lr * probs.sum(0)
    w1 -= lr * (x.T @ back)
    b1 -= lr * back.sum(0)
    return [w1, b1, w2, b2], loss


@client.train()
def train(msg: Message, context: Context):
    x, y = data_of(context.node_config["partition-id"])
    params, loss = step(msg.content["arrays"].to_numpy_ndarrays(), x, y)
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(y)})
    return Message(RecordDict({"arrays": ArrayRecord(params), "metrics": metrics}), reply_to=msg)


@server.main()
def main(grid: Grid, context: Context) -> None:
    rng = np.random.default_rng(0)
    shapes = (784, 32), (32,), (32, 10), (10,)
    arrays = ArrayRecord([rng.normal(0, 0.05, shape).astype(np.float32) for shape in shapes])
    strategy = FedAvg(fraction_train=context.run_config["fraction"], fraction_evaluate=0.0)
    strategy.start(grid, arrays, num_rounds=context.run_config["num-server-rounds"])
