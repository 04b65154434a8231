"""A model of a given size; each node returns it with its own constant added, so that every byte of the reply is new."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

server, client = ServerApp(), ClientApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    count = int(config["arrays"])
    size = max(1, int(float(config["mib"]) * 2**20 / 4 / count))
    rng = np.random.default_rng(0)
    start = ArrayRecord({f"layer{i}": Array(rng.random(size, dtype=np.float32)) for i in range(count)})
    nodes = int(config["nodes"])
    strategy = FedAvg(
        fraction_train=1.0,
        fraction_evaluate=float(config["evaluate"]),
        min_train_nodes=nodes,
        min_evaluate_nodes=nodes if float(config["evaluate"]) else 0,
        min_available_nodes=nodes,
    )
    strategy.start(grid=grid, initial_arrays=start, num_rounds=int(config["num-server-rounds"]))


@client.train()
def train(message: Message, context: Context) -> Message:
    step = np.float32(int(context.node_config["partition-id"]) + 1)
    arrays = {name: Array(array.numpy() + step) for name, array in message.content["arrays"].items()}
    metrics = MetricRecord({"num-examples": 10, "loss": 1.0})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)


@client.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": 10, "loss": 1.0})}), reply_to=message)
