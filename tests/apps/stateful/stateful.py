"""A ClientApp that counts its calls and keeps an array in its context's state."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()


@client.train()
def train(msg: Message, context: Context):
    if "calls" not in context.state:
        context.state["calls"] = MetricRecord({"n": 0})
        context.state["sum"] = ArrayRecord([np.zeros(3, np.float32)])
    calls = context.state["calls"]
    calls["n"] += 1
    seen = context.state["sum"]["0"].numpy() + calls["n"]
    context.state["sum"] = ArrayRecord([seen])
    metrics = MetricRecord({"calls": calls["n"], "num-examples": 1})
    return Message(RecordDict({"arrays": ArrayRecord([seen]), "metrics": metrics}), reply_to=msg)


@server.main()
def main(grid: Grid, context: Context) -> None:
    FedAvg(fraction_evaluate=0.0).start(grid, ArrayRecord([np.zeros(3, np.float32)]), num_rounds=3)
