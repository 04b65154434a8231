"""A strategy with a ``start`` of its own, as Flower's advanced examples have."""

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg, Result

server = ServerApp()
client = ClientApp()


class Own(FedAvg):
    def start(self, grid, initial_arrays, num_rounds=3, timeout=3600.0, **_):
        result, arrays = Result(), initial_arrays
        for number in range(1, num_rounds + 1):
            replies = grid.send_and_receive(self.configure_train(number, arrays, ConfigRecord(), grid), timeout=timeout)
            arrays, metrics = self.aggregate_train(number, replies)
            result.arrays = arrays
            result.train_metrics_clientapp[number] = metrics
            result.evaluate_metrics_serverapp[number] = MetricRecord({"sum": float(arrays["0"].numpy().sum())})
        return result


@server.main()
def main(grid, context):
    first = ArrayRecord([np.zeros(2, np.float32)])
    Own().start(grid, first, context.run_config["num-server-rounds"])


@client.train()
def train(msg, context):
    arrays = ArrayRecord([msg.content["arrays"]["0"].numpy() + 1])
    content = {"arrays": arrays, "metrics": MetricRecord({"num-examples": 1, "loss": 0.5})}
    return Message(RecordDict(content), reply_to=msg)
