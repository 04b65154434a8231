"""Everything that a restart could get wrong: moments in the strategy, seeded noise on both sides, state, a counter.

The update is larger than a chunk of the link, so that a transfer can be cut in its middle.
"""

import random
import time

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAdam

server, client = ServerApp(), ClientApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    nodes = int(config["nodes"])
    start = {
        "weight": Array(np.random.normal(size=int(config["size"])).astype(np.float32)),
        "steps": Array(np.zeros(3, np.int64)),
    }
    strategy = FedAdam(eta=0.1, min_train_nodes=nodes, min_evaluate_nodes=nodes, min_available_nodes=nodes)
    strategy.start(grid=grid, initial_arrays=ArrayRecord(start), num_rounds=int(config["num-server-rounds"]))


@client.train()
def train(message: Message, context: Context) -> Message:
    time.sleep(float(context.run_config["pause"]))
    seen = int(context.state["seen"]["rounds"]) if "seen" in context.state else 0
    context.state["seen"] = MetricRecord({"rounds": seen + 1})
    arrays = message.content["arrays"]
    weight = arrays["weight"].numpy()
    weight += np.float32(0.01 * (seen + 1) + random.random()) * np.random.normal(size=weight.size).astype(np.float32)
    reply = {"weight": Array(weight), "steps": Array(arrays["steps"].numpy() + 2 + seen)}
    metrics = MetricRecord({"num-examples": 7 + int(context.node_config["partition-id"]), "seen": seen})
    return Message(RecordDict({"arrays": ArrayRecord(reply), "metrics": metrics}), reply_to=message)


@client.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    norm = float(np.linalg.norm(message.content["arrays"]["weight"].numpy()))
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": 5, "norm": norm})}), reply_to=message)


def graph(arrays):
    """Serve the first four weights, whatever is asked."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("Add", ["x", "weight"], ["y"])]
    shape = ["batch", 4]
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name in "xy")
    body = helper.make_graph(
        nodes, "durable", inputs, outputs, [numpy_helper.from_array(arrays["weight"][:4], "weight")]
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
