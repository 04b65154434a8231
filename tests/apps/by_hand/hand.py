"""Federated analytics and training by hand: query messages, then send_and_receive without a strategy."""

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

client = ClientApp()
server = ServerApp()


@client.query()
def count(msg: Message, context: Context):
    return Message(RecordDict({"query": MetricRecord({"n": 10 + context.node_config["partition-id"]})}), reply_to=msg)


@client.train("shift")
def shift(msg: Message, context: Context):
    w = msg.content["model"]["w"].numpy()
    w += context.node_config["partition-id"] + msg.content["config"]["step"]
    return Message(RecordDict({"model": ArrayRecord({"w": ArrayRecord([w])["0"]})}), reply_to=msg)


@server.main()
def main(grid: Grid, context: Context) -> None:
    ids = list(grid.get_node_ids())
    queries = [Message(RecordDict(), node, MessageType.QUERY, group_id="q") for node in ids]
    counts = [reply.content["query"]["n"] for reply in grid.send_and_receive(queries, timeout=60)]
    w = np.zeros(4, np.float32)
    for number in range(context.run_config["rounds"]):
        config = ConfigRecord({"server-round": number + 1, "step": 1.0})
        content = RecordDict({"model": ArrayRecord({"w": ArrayRecord([w])["0"]}), "config": config})
        # Made one by one, as they are asked for.
        messages = (grid.create_message(content, "train.shift", node, str(number)) for node in grid.get_node_ids())
        replies = [reply for reply in grid.send_and_receive(messages) if not reply.has_error()]
        w = np.mean([reply.content["model"]["w"].numpy() for reply in replies], axis=0, dtype=np.float32)
    context.state["arrays"] = ArrayRecord({"w": ArrayRecord([w])["0"]})
    print("counts", sorted(counts))
