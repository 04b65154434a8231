"""Runs a ServerApp: its Grid, its result, and its metrics as they come.

What was trained is told as soon as a strategy has ended, and again before a failure: an app that breaks afterwards,
over a plot or in its last line, does not take the model along.
"""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
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
    """Tells about each round once its metrics are there, and remembers the last result of a strategy.

    A strategy with a ``start`` of its own makes Flower's ``Result`` too, so it is the ``Result`` that counts.

    Args:
        tell: Takes one frame.
        ended: Called when a strategy has ended.
    """

    def __init__(self, tell: Any, ended: Callable[[], None] = lambda: None) -> None:
        self._tell, self._ended = tell, ended
        self._current: Result | None = None
        self._trained: Result | None = None  # the last but the current that has arrays
        self._told: set[tuple[int, int, str]] = set()
        self._older: tuple[ArrayRecord, dict[str, Any]] | None = None
        self._record = RESULT

    @property
    def result(self) -> Result | None:
        """The last result with arrays, or the last one where none has any."""
        current = self._current
        return current if self._trained is None or (current is not None and current.arrays) else self._trained

    @property
    def round(self) -> int:
        """The round that the result is of, 0 where the strategy does not say."""
        return max(self.result.train_metrics_clientapp, default=0) if self.result is not None else 0

    def watch(self) -> None:
        """Put ourselves around ``Strategy.start`` and Flower's ``Result``."""
        legacy.watch(self._keep_older)
        start, make = Strategy.start, Result.__init__
        progress = self

        @functools.wraps(make)
        def remember(result: Result, *args: Any, **kwargs: Any) -> None:
            make(result, *args, **kwargs)
            progress._trained = progress.result if progress.result is not None and progress.result.arrays else None
            progress._current = result

        @functools.wraps(start)
        def watched(strategy: Strategy, *args: Any, **kwargs: Any) -> Result:
            progress._record = getattr(strategy, "arrayrecord_key", RESULT)
            result = start(strategy, *args, **kwargs)
            progress.last_round()
            progress._ended()
            return result

        Result.__init__ = remember  # type: ignore[method-assign,assignment]
        Strategy.start = watched  # type: ignore[method-assign,assignment]

    def _keep_older(self, arrays: ArrayRecord, metrics: dict[str, Any]) -> None:
        self._older = arrays, metrics
        self._ended()

    def last_round(self) -> None:
        """Tell of the rounds that no further exchange has told of."""
        self.note(sys.maxsize, "train")

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

    def trained(self, grid: Grid) -> ArrayRecord | None:
        """Return the arrays that a strategy has trained so far."""
        if self.result is not None and self.result.arrays:
            return grid.final_dtypes(self.result.arrays, self._record)
        return self._older[0] if self._older is not None else None

    def arrays(self, context: Context, grid: Grid) -> ArrayRecord | None:
        """Return the job's result: the last strategy's arrays, else the one ArrayRecord of the app's own state."""
        trained = self.trained(grid)
        if trained is not None:
            return trained
        kept = {name: record for name, record in context.state.items() if isinstance(record, ArrayRecord)}
        if RESULT in kept:
            return grid.final_dtypes(kept[RESULT], RESULT)
        return next(iter(kept.values())) if len(kept) == 1 else None


def run_server(parent: Parent, start: dict[str, Any]) -> None:
    """Run the ServerApp that ``start`` names until it is finished or has failed."""
    progress = Progress(parent.tell, lambda: _trained(parent, progress, grid))
    grid = Grid(ParentCarrier(parent), start["run_id"], start["aggregation"], progress.note)
    try:
        shim.identify(start["run_id"], shim.SERVER_NODE)
        progress.watch()
        seed_all(start["seed"])
        app = load(start["app_dir"], start["component"])
        seed_all(start["seed"])
        parent.tell({"op": "ready"})
        context = Context(start["run_id"], shim.SERVER_NODE, start["node_config"], RecordDict(), start["run_config"])
        app(grid, context)
        if grid.stopped is not None:
            raise grid.stopped
        progress.last_round()
        _say(parent, "finished", progress, progress.arrays(context, grid))
    except BaseException as error:  # noqa: BLE001 tenant code may raise anything; it becomes a typed failure
        _trained(parent, progress, grid)
        parent.tell(failure(error))


def _trained(parent: Parent, progress: Progress, grid: Grid) -> None:
    """Tell what is trained by now; an app can break that too, and its failure is told then, not ours."""
    try:
        arrays = progress.trained(grid)
        if arrays is not None:
            _say(parent, "trained", progress, arrays)
    except Exception:  # noqa: BLE001 the arrays are the app's to replace with anything
        traceback.print_exc()


def _say(parent: Parent, op: str, progress: Progress, arrays: ArrayRecord | None) -> None:
    size, fds = None, []
    if arrays is not None:
        fd, size = encode(RecordDict({RESULT: arrays}))
        fds = [fd]
    parent.tell({"op": op, "object": size, "round": progress.round, "metrics": progress.metrics()}, fds)


def _plain(metrics: MetricRecord | None) -> dict[str, Any]:
    return dict(metrics.items()) if metrics is not None else {}
