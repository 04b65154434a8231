"""The result of apps in Flower's older style (``server_fn``), which keep it to themselves.

Their ``Server`` asks each client in a thread of its own, in whatever order the threads come; one thread at a time makes
the order the same when a ServerApp is started again.  Flower has marked this style as deprecated; without it here,
nothing else is lost.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flwr.app import ArrayRecord

try:
    from flwr.common import parameters_to_ndarrays
    from flwr.server.server import Server
except ImportError:
    Server = None  # type: ignore[assignment,misc]

Keep = Callable[[ArrayRecord, dict[str, Any]], None]  # arrays, metrics


def watch(keep: Keep) -> None:
    """Call ``keep`` with what each old-style server ends with."""
    if Server is None:
        return
    fit: Any = Server.fit

    @functools.wraps(fit)
    def watched(server: Any, *args: Any, **kwargs: Any) -> Any:
        server.set_max_workers(1)
        outcome = fit(server, *args, **kwargs)
        history = outcome[0] if isinstance(outcome, tuple) else outcome
        keep(ArrayRecord(parameters_to_ndarrays(server.parameters)), _metrics(history))
        return outcome

    Server.fit = watched  # type: ignore[method-assign,assignment]


def _metrics(history: Any) -> dict[str, Any]:
    """Return the last value of each series of Flower's ``History``."""
    losses = {"evaluate.loss": history.losses_distributed, "central.loss": history.losses_centralized}
    found = {name: series[-1][1] for name, series in losses.items() if series}
    kinds = {
        "train": history.metrics_distributed_fit,
        "evaluate": history.metrics_distributed,
        "central": history.metrics_centralized,
    }
    for kind, metrics in kinds.items():
        found |= {f"{kind}.{key}": series[-1][1] for key, series in metrics.items() if series}
    return {name: value for name, value in found.items() if isinstance(value, (int, float))}
