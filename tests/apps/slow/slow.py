"""The last node takes two minutes to train; the others answer at once."""

import time

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

server, client = ServerApp(), ClientApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    start = ArrayRecord({"w": Array(np.zeros(2, np.float32))})
    FedAvg(fraction_evaluate=0.0, min_train_nodes=3, min_available_nodes=3).start(grid, start, num_rounds=2)


@client.train()
def train(message: Message, context: Context) -> Message:
    if context.node_config["partition-id"] == 2:
        time.sleep(120)
    arrays = {name: Array(array.numpy() + 1) for name, array in message.content["arrays"].items()}
    return Message(
        RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 1})}), reply_to=message
    )
