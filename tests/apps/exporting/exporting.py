"""Factories of servable graphs, good and bad; and a ServerApp that shows what is deterministic."""

import os
import random

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

client = ClientApp()
server = ServerApp()


def net():
    import torch

    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())


def broken():
    raise LookupError("no such model")


def endless():
    while True:
        pass


@server.main()
def main(grid: Grid, context: Context) -> None:
    drawn = [random.random(), float(np.random.rand())]
    order = [float(hash(word) % 1000) for word in {"a", "b", "c", "d"}]
    context.state["arrays"] = ArrayRecord([np.array(drawn + order), np.array([os.getpid() * 0.0])])
