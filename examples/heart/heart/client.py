"""What runs at each hospital."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from heart import model
from heart.data import Floats, features, path_of, read

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take some steps from the global model on this hospital's rows."""
    rows = _rows(context)
    weight, bias = model.fit(
        *_arrays(message), rows, steps=int(context.run_config["local-steps"]), **_settings(context)
    )
    metrics = {
        "num-examples": len(rows[1]),
        "train-loss": model.log_loss(model.out_of_fold(weight, bias, rows), rows[1]),
    }
    return Message(
        RecordDict({"arrays": _record(weight, bias), "metrics": MetricRecord(metrics)}),
        reply_to=message,
    )


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score the global model out of fold."""
    rows = _rows(context)
    p = model.out_of_fold(*_arrays(message), rows)
    metrics = {
        "num-examples": len(p),
        "loss": model.log_loss(p, rows[1]),
        "accuracy": float(((p > 0.5) == (rows[1] == 1)).mean()),
    }
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


@app.query()
def query(message: Message, context: Context) -> Message:
    """Compare the global model with this hospital's own and with the majority class, all out of fold."""
    rows = _rows(context)
    start = model.initial()
    steps = int(context.run_config["local-steps"]) * int(context.run_config["num-server-rounds"])
    own = model.fit(start["weight"].astype(float), start["bias"].astype(float), rows, steps=steps, **_settings(context))
    kinds = {
        "federated": model.out_of_fold(*_arrays(message), rows),
        "local": model.out_of_fold(*own, rows),
        "majority": model.majority(rows[1]),
    }
    reply = RecordDict({name: MetricRecord(dict(model.scores(p, rows[1]))) for name, p in kinds.items()})
    reply["size"] = MetricRecord(
        {"n": len(rows[1]), "positive": int(rows[1].sum()), "partition": int(context.node_config["partition-id"])}
    )
    return Message(reply, reply_to=message)


def _rows(context: Context) -> tuple[Floats, Floats]:
    x, y = read(path_of(context))
    return features(x), y


def _arrays(message: Message) -> tuple[Floats, Floats]:
    record = message.content["arrays"]
    return record["weight"].numpy().astype(float), record["bias"].numpy().astype(float)


def _record(weight: Floats, bias: Floats) -> ArrayRecord:
    return ArrayRecord({"weight": Array(weight.astype(np.float32)), "bias": Array(bias.astype(np.float32))})


def _settings(context: Context) -> dict[str, float]:
    return {"rate": float(context.run_config["learning-rate"]), "l2": float(context.run_config["l2"])}
