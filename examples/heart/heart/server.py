"""What runs beside the coordinator: federated averaging, then one question to every hospital."""

from __future__ import annotations

import json
import math

from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from heart import model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train the shared model and print how it does at each hospital."""
    start = ArrayRecord({name: Array(array) for name, array in model.initial().items()})
    rounds = int(context.run_config["num-server-rounds"])
    result = FedAvg().start(grid=grid, initial_arrays=start, num_rounds=rounds)
    content = RecordDict({"arrays": result.arrays})
    questions = [Message(content, dst_node_id=node, message_type="query") for node in grid.get_node_ids()]
    hospitals = [_row(reply) for reply in grid.send_and_receive(questions) if reply.has_content()]
    hospitals.sort(key=lambda row: int(row["partition"]))
    print("HANSA-RESULT " + json.dumps({"hospitals": hospitals}), flush=True)


def _row(reply: Message) -> dict[str, object]:
    records = reply.content.metric_records
    models = {
        name: {key.replace("-", "_"): None if math.isnan(float(v)) else float(v) for key, v in records[name].items()}
        for name in ("federated", "local", "majority")
    }
    return {**{key: int(value) for key, value in records["size"].items()}, "models": models}
