"""numpy-regression: the ClientApp."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fed.task import fit, load_data, loss_of

app = ClientApp()


@app.train()
def train(msg: Message, context: Context):
    weights, bias = msg.content["arrays"].to_numpy_ndarrays()
    x, y = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])
    weights, bias = fit(weights, bias, x, y, msg.content["config"]["lr"], steps=5)
    metrics = {"train_loss": loss_of(weights, bias, x, y), "num-examples": len(y)}
    content = RecordDict({"arrays": ArrayRecord([weights, bias]), "metrics": MetricRecord(metrics)})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context):
    weights, bias = msg.content["arrays"].to_numpy_ndarrays()
    x, y = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])
    metrics = {"eval_loss": loss_of(weights, bias, x, y), "num-examples": len(y)}
    return Message(content=RecordDict({"metrics": MetricRecord(metrics)}), reply_to=msg)
