"""Runs a ServerApp: its Grid, its result, and its metrics as they come."""

from __future__ import annotations

import functools
import sys
from typing import Any

from flwr.app import ArrayRecord, Context, MetricRecord, RecordDict
from flwr.serverapp.strategy import Result, Strategy

from common.child import legacy, shim
from common.child.carrier import ParentCarrier
from common.child.grid import Grid
from common.child.loader import load, seed_all
from common.child.parent import Parent, failure
from common.child.records import encode

RESULT = "arrays"  # the record that a job's result is kept in


class Progress:
    """Tells about each round once its metrics are there, and remembers the last strategy's result.

    Args:
        tell: Takes one frame.
    """

    def __init__(self, tell: Any) -> None:
        self._tell = tell
        self._current: Result | None = None
        self._told: set[tuple[int, int, str]] = set()
        self._older: tuple[ArrayRecord, dict[str, Any]] | None = None
        self.result: Result | None = None
        self.record = RESULT

    def watch(self) -> None:
        """Put ourselves around ``Strategy.start`` and Flower's ``Result``."""
        legacy.watch(self._keep_older)
        start, make = Strategy.start, Result.__init__
        progress = self

        @functools.wraps(make)
        def remember(result: Result, *args: Any, **kwargs: Any) -> None:
            make(result, *args, **kwargs)
            progress._current = result

        @functools.wraps(start)
        def watched(strategy: Strategy, *args: Any, **kwargs: Any) -> Result:
            result = start(strategy, *args, **kwargs)
            progress.note(sys.maxsize, "train")
            progress.result = result
            progress.record = getattr(strategy, "arrayrecord_key", RESULT)
            return result

        Result.__init__ = remember  # type: ignore[method-assign,assignment]
        Strategy.start = watched  # type: ignore[method-assign,assignment]

    def _keep_older(self, arrays: ArrayRecord, metrics: dict[str, Any]) -> None:
        self._older = arrays, metrics

    def note(self, round_: int, kind: str) -> None:
        """Tell what the strategy has aggregated up to the exchange of ``kind`` in ``round_``."""
        result = self._current
        if result is None:
            return
        for done, metrics in result.evaluate_metrics_serverapp.items():
            self._once(done, "evaluated", {"metrics": _plain(metrics)})
        if kind.partition(".")[0] != "train":
            return
        train, evaluate = result.train_metrics_clientapp, result.evaluate_metrics_clientapp
        for done in sorted({*train, *evaluate}):
            if done < round_:
                self._once(
                    done, "round_done", {"train": _plain(train.get(done)), "evaluate": _plain(evaluate.get(done))}
                )

    def _once(self, round_: int, op: str, facts: dict[str, Any]) -> None:
        key = (id(self._current), round_, op)
        if key not in self._told:
            self._told.add(key)
            self._tell({"op": op, "round": round_, **facts})

    def metrics(self) -> dict[str, Any]:
        """Return the last metrics of each kind, named train., evaluate. and central. (as the job's own)."""
        if self.result is None:
            return self._older[1] if self._older is not None else {}
        kinds = {
            "train": self.result.train_metrics_clientapp,
            "evaluate": self.result.evaluate_metrics_clientapp,
            "central": self.result.evaluate_metrics_serverapp,
        }
        return {
            f"{name}.{key}": value
            for name, rounds in kinds.items()
            if rounds
            for key, value in rounds[max(rounds)].items()
        }

    def arrays(self, context: Context, grid: Grid) -> ArrayRecord | None:
        """Return the job's result: the last strategy's arrays, else the one ArrayRecord of the app's own state."""
        if self.result is not None and self.result.arrays:
            return grid.final_dtypes(self.result.arrays, self.record)
        if self._older is not None:
            return self._older[0]
        kept = {name: record for name, record in context.state.items() if isinstance(record, ArrayRecord)}
        if RESULT in kept:
            return grid.final_dtypes(kept[RESULT], RESULT)
        return next(iter(kept.values())) if len(kept) == 1 else None


def run_server(parent: Parent, start: dict[str, Any]) -> None:
    """Run the ServerApp that ``start`` names until it is finished or has failed."""
    try:
        shim.identify(start["run_id"], shim.SERVER_NODE)
        progress = Progress(parent.tell)
        progress.watch()
        seed_all(start["seed"])
        app = load(start["app_dir"], start["component"])
        seed_all(start["seed"])
        parent.tell({"op": "ready"})
        grid = Grid(ParentCarrier(parent), start["run_id"], start["aggregation"], progress.note)
        context = Context(start["run_id"], shim.SERVER_NODE, start["node_config"], RecordDict(), start["run_config"])
        app(grid, context)
        if grid.stopped is not None:
            raise grid.stopped
        _finish(parent, progress, progress.arrays(context, grid))
    except BaseException as error:  # noqa: BLE001 tenant code may raise anything; it becomes a typed failure
        parent.tell(failure(error))


def _finish(parent: Parent, progress: Progress, arrays: ArrayRecord | None) -> None:
    size, fds = None, []
    if arrays is not None:
        fd, size = encode(RecordDict({RESULT: arrays}))
        fds = [fd]
    parent.tell({"op": "finished", "object": size, "metrics": progress.metrics()}, fds)


def _plain(metrics: MetricRecord | None) -> dict[str, Any]:
    return dict(metrics.items()) if metrics is not None else {}
