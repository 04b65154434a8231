"""The same app in Flower's own simulation engine (``flwr[simulation]``), which scales out on a Ray cluster.

``run_simulation`` is deprecated by Flower and may go; nothing else of ours depends on it.
"""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from common.child.loader import load, seed_all
from common.child.parent import Stop
from common.child.server import Progress

_LOOK_S = 0.05


def run_ray(app_dir: Path, server: str, client: str, config: dict[str, Any], nodes: int, seed: int) -> dict[str, Any]:
    """Run the app with ``nodes`` virtual clients under Ray and return the summary.

    Raises:
        Stop: ``missing_imports`` if Ray is not in this environment.
    """
    try:
        importlib.import_module("ray")
        simulation = importlib.import_module("flwr.simulation")
    except ImportError as error:
        raise Stop("missing_imports", "the Ray engine needs flwr[simulation] in this environment") from error
    # The actors import the app by name.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(app_dir), os.environ.get("PYTHONPATH", "")]))
    seed_all(seed)
    server_app, client_app = load(str(app_dir), server), load(str(app_dir), client)
    seed_all(seed)
    progress = Progress(lambda _frame: None)
    progress.watch()
    outer = ServerApp()

    @outer.main()
    def main(grid: Grid, context: Context) -> None:
        context.run_config.update(config)
        while len(list(grid.get_node_ids())) < nodes:  # they come one by one, and a strategy samples of those here
            time.sleep(_LOOK_S)
        server_app(grid, context)

    class Configured(ClientApp):
        """The app's own with the run's configuration, which ``run_simulation`` gives to no client.

        Defined here so that it travels to the actors by value: our modules are not there.
        """

        def __call__(self, message: Message, context: Context) -> Message:
            # Flower refuses a context whose run_config changed, so the app gets one of its own.
            inner = Context(
                run_id=context.run_id,
                node_id=context.node_id,
                node_config=context.node_config,
                state=context.state,
                run_config={**context.run_config, **config},
            )
            reply: Message = client_app(message, inner)
            context.state = inner.state
            return reply

    began = time.perf_counter()
    simulation.run_simulation(
        server_app=outer,
        client_app=Configured(),
        num_supernodes=nodes,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    if progress.result is None:
        raise Stop("app_raised", "the ServerApp ended without a result; Flower's log above says why")
    seconds = time.perf_counter() - began
    return {
        "arrays": progress.result.arrays or None,
        "metrics": progress.metrics(),
        "seconds": round(seconds, 6),
        "clients": None,
        "clients_per_s": None,
    }
