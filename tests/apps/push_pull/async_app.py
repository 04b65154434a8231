"""Asynchronous rounds: push, then pull whatever has come."""

import time

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

client = ClientApp()
server = ServerApp()


@client.train()
def train(msg: Message, context: Context):
    value = msg.content["in"]["value"] * (1 + context.node_config["partition-id"])
    return Message(RecordDict({"out": MetricRecord({"value": value})}), reply_to=msg)


@server.main()
def main(grid: Grid, context: Context) -> None:
    content = RecordDict({"in": MetricRecord({"value": 7})})
    ids = set(grid.push_messages(Message(content, node, "train") for node in grid.get_node_ids()))
    values = []
    while ids:
        for reply in grid.pull_messages(ids):
            ids.remove(reply.metadata.reply_to_message_id)
            values.append(reply.content["out"]["value"])
        time.sleep(0.01)
    print("values", sorted(values))
