"""Rounds of a set length, as many as are asked for."""

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
    nodes = context.run_config["nodes"]
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
    strategy.start(grid, start, num_rounds=context.run_config["num-server-rounds"])


@client.train()
def train(message: Message, context: Context) -> Message:
    time.sleep(context.run_config["pause"])
    arrays = {name: Array(array.numpy() + 1) for name, array in message.content["arrays"].items()}
    return Message(
        RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 1})}), reply_to=message
    )
