"""Apps in Flower's older style (``server_fn``): their result, which they keep to themselves, and their rounds.

Their ``Server`` asks each client in a thread of its own and takes the answers in the order of a set of futures, which
is another one in each process.  Here a round is one exchange with all its clients and the answers come in the order in
which they were asked: so the nodes work at once, and a ServerApp that is started again sums in the same order.
Flower has marked this style as deprecated; without it here, nothing else is lost.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flwr.app import ArrayRecord, Message

try:
    from flwr.common import Code, parameters_to_ndarrays
    from flwr.server import server
    from flwr.server.compat.grid_client_proxy import GridClientProxy

    older: Any = server
except ImportError:
    older = None

Keep = Callable[[ArrayRecord, dict[str, Any]], None]  # arrays, metrics


def watch(keep: Keep) -> None:
    """Call ``keep`` with what each old-style server ends with, and let it ask its clients together."""
    if older is None:
        return
    fit: Any = older.Server.fit

    @functools.wraps(fit)
    def watched(server: Any, *args: Any, **kwargs: Any) -> Any:
        outcome = fit(server, *args, **kwargs)
        history = outcome[0] if isinstance(outcome, tuple) else outcome
        keep(ArrayRecord(parameters_to_ndarrays(server.parameters)), _metrics(history))
        return outcome

    older.Server.fit = watched
    older.fit_clients = _together(older.fit_clients, "fit")
    older.evaluate_clients = _together(older.evaluate_clients, "evaluate")


class _Asked(BaseException):
    """Carries the message that a proxy was about to send."""

    def __init__(self, message: Message) -> None:
        super().__init__()
        self.message = message


class _Stand:
    """In the place of a proxy's grid: takes its message, or has the reply to it already."""

    def __init__(self, reply: Message | None = None) -> None:
        self._reply = reply

    def send_and_receive(self, messages: list[Message], **_: Any) -> list[Message]:
        """Return the reply; without one, hand the message up."""
        if self._reply is None:
            raise _Asked(messages[0])
        return [self._reply]


def _together(original: Any, verb: str) -> Any:
    """Return ``fit_clients`` or ``evaluate_clients`` over one exchange."""

    @functools.wraps(original)
    def ask(client_instructions: Any, max_workers: Any, timeout: Any, group_id: Any) -> Any:
        asked = list(client_instructions)
        if not asked or not all(isinstance(client, GridClientProxy) for client, _ in asked):
            return original(client_instructions, max_workers, timeout, group_id)
        grid = asked[0][0].grid
        messages = _messages([(client, ins) for client, ins in asked], verb, timeout, group_id)
        replies = {reply.metadata.src_node_id: reply for reply in grid.send_and_receive(messages)}
        results: list[Any] = []
        failures: list[Any] = []
        for client, ins in asked:
            try:
                if client.node_id not in replies:
                    raise TimeoutError(f"node {client.node_id} has not answered")
                found = _call(client, verb, ins, timeout, group_id, _Stand(replies[client.node_id]))
            except Exception as error:  # noqa: BLE001 as Flower does: whatever it is, it is this client's failure
                failures.append(error)
            else:
                (results if found.status.code == Code.OK else failures).append((client, found))
        return results, failures

    return ask


def _messages(asked: list[tuple[Any, Any]], verb: str, timeout: Any, group_id: Any) -> list[Message]:
    """Return what the proxies would send; equal instructions are one content, which is carried once."""
    first: dict[tuple[int, str], Message] = {}
    made = []
    for client, ins in asked:
        key = id(ins.parameters), repr(sorted(ins.config.items()))
        if key not in first:
            try:
                _call(client, verb, ins, timeout, group_id, _Stand())
            except _Asked as question:
                first[key] = question.message
        model, facts = first[key].content, first[key].metadata
        made.append(Message(model, client.node_id, facts.message_type, ttl=facts.ttl, group_id=facts.group_id))
    return made


def _call(client: Any, verb: str, ins: Any, timeout: Any, group_id: Any, stand: _Stand) -> Any:
    grid, client.grid = client.grid, stand
    try:
        return getattr(client, verb)(ins, timeout=timeout, group_id=group_id)
    finally:
        client.grid = grid


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
