"""An app with folders called common/ and common/child/."""

import sys

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

import common
import common.child

client = ClientApp()
server = ServerApp()


def check() -> None:
    if (common.OWNER, common.child.OWNER) != ("tenant", "tenant's child"):
        raise RuntimeError("the app got someone else's common")
    if [entry for entry in sys.path if entry.rstrip("/").endswith("/hansa")]:
        raise RuntimeError("the platform left its path behind")


@client.train()
def train(msg: Message, context: Context):
    check()
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": msg.content["arrays"], "metrics": metrics}), reply_to=msg)


@server.main()
def main(grid: Grid, context: Context) -> None:
    check()
    FedAvg(fraction_evaluate=0.0).start(grid, ArrayRecord([np.ones(3, np.float32)]), num_rounds=2)
