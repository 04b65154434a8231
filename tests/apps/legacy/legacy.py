"""An app in Flower's older style: NumPyClient, client_fn and server_fn."""

import numpy as np
from flwr.client import ClientApp, NumPyClient
from flwr.common import Context, ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg


class Client(NumPyClient):
    def __init__(self, part: int, failing: int):
        self.part, self.failing = part, failing

    def fit(self, parameters, config):
        if self.part == self.failing:
            raise ValueError("no data today")
        return [array + self.part + 1 for array in parameters], 10, {"loss": 1.0}

    def evaluate(self, parameters, config):
        return float(np.sum(parameters[0])), 10, {"accuracy": 0.5}


def client_fn(context: Context):
    part, failing = context.node_config["partition-id"], context.run_config.get("failing", -1)
    return Client(int(part), int(failing)).to_client()


def weighted(metrics):
    print("aggregated", sorted(value["accuracy"] for _, value in metrics))
    return {"accuracy": metrics[0][1]["accuracy"]}


def server_fn(context: Context):
    parameters = ndarrays_to_parameters([np.zeros(3, np.float32)])
    strategy = FedAvg(initial_parameters=parameters, evaluate_metrics_aggregation_fn=weighted)
    config = ServerConfig(num_rounds=int(context.run_config["num-server-rounds"]))
    return ServerAppComponents(strategy=strategy, config=config)


client = ClientApp(client_fn=client_fn)
server = ServerApp(server_fn=server_fn)
