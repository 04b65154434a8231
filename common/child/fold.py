"""Which exchanges the parent may answer with one folded reply: those where Flower itself would take a weighted mean.

An exchange folds when Flower's own ``Strategy.start`` makes it and everything that will see the replies *is* Flower's
original: the class's ``aggregate_*``, what those call, and the metric function.  A subclass that overrides any of them,
a mixin between, a replaced function in Flower's modules or on the instance means: individual replies.  A job that
says ``aggregation = "mean"`` folds every train and evaluate exchange.  Query replies are never folded.

Source:
    Flower 1.41, ``flwr/serverapp/strategy``; that one reply with the total weight gives the same result is tested.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedYogi, Strategy
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from common.child import single

LINEAR = (FedAvg, FedProx, FedAvgM, FedAdam, FedYogi, FedAdagrad)
WEIGHT = "num-examples"  # the metric in which the parent puts the total weight
_SEES_REPLIES = ("_check_and_log_replies", "_compute_deltat_and_mt", "aggregate_evaluate", "aggregate_train")


@dataclass(frozen=True)
class Verdict:
    """Whether to fold, and if not, why."""

    fold: bool
    why: str = ""


def _functions() -> dict[tuple[type, str], Any]:
    classes = {cls for linear in LINEAR for cls in linear.__mro__}
    return {(cls, name): vars(cls)[name] for cls in classes for name in _SEES_REPLIES if name in vars(cls)}


def _globals(functions: dict[tuple[type, str], Any]) -> list[tuple[dict[str, Any], str, Any]]:
    found: list[tuple[dict[str, Any], str, Any]] = []
    for function in functions.values():
        if isinstance(function, FunctionType):
            names = function.__globals__
            found += [(names, name, names[name]) for name in function.__code__.co_names if name in names]
    return found


single.install()
# Taken before any app code runs; an app that changes Flower afterwards is seen.
_ORIGINAL = _functions()
_ORIGINAL_GLOBALS = _globals(_ORIGINAL)
_START_CODE = Strategy.start.__code__


def strategy_calling(depth: int = 1) -> Any:
    """Return the strategy whose ``Strategy.start`` called the caller of this function directly, or None."""
    frame = sys._getframe(depth + 1)  # noqa: SLF001 the one way to know who asks without trusting what it says
    return frame.f_locals.get("self") if frame.f_code is _START_CODE else None


def judge(kind: str, strategy: Any, aggregation: str) -> Verdict:
    """Return whether an exchange of ``kind`` messages may be folded.

    Args:
        kind: Flower's message type, with or without an action ("train", "train.other").
        strategy: What ``strategy_calling`` returned.
        aggregation: The job's setting, "auto" or "mean".
    """
    category = kind.partition(".")[0]
    if category not in {"train", "evaluate"}:
        return Verdict(fold=False, why=f"replies to {category} messages are not folded")
    if aggregation == "mean":
        return Verdict(fold=True)
    if strategy is None:
        return Verdict(fold=False, why="app calls the Grid itself")
    why = _not_linear(strategy, category)
    return Verdict(fold=not why, why=why)


def _not_linear(strategy: Any, category: str) -> str:
    reasons = (check(strategy, category) for check in (_own_function, _overrides, _own_metrics))
    return next((why for why in reasons if why), "")


def _own_function(strategy: Any, category: str) -> str:
    cls, aggregate = type(strategy), f"aggregate_{category}"
    if not isinstance(strategy, LINEAR) or _resolved(cls, aggregate) is not _expected(cls, aggregate):
        return f"strategy {cls.__name__} has its own {aggregate}"
    return ""


def _overrides(strategy: Any, category: str) -> str:
    """Look where ``super()`` and ``self`` in Flower's functions may lead: mixins, the instance, Flower's modules."""
    names = [name for name in _SEES_REPLIES if name != _other(f"aggregate_{category}")]
    owners = [owner for owner in type(strategy).__mro__ if owner is not Strategy]
    for name in names:
        defined = [owner for owner in owners if name in vars(owner)]
        if name in vars(strategy) or any(vars(owner)[name] is not _ORIGINAL.get((owner, name)) for owner in defined):
            return f"strategy overrides {name}"
    if any(module.get(name) is not original for module, name, original in _ORIGINAL_GLOBALS):
        return "app changed a function of Flower"
    return ""


def _own_metrics(strategy: Any, category: str) -> str:
    if getattr(strategy, f"{category}_metrics_aggr_fn", None) is not aggregate_metricrecords:
        return "metric function is the app's own"
    if strategy.weighted_by_key != WEIGHT:
        return f"strategy weighs by {strategy.weighted_by_key!r}, not {WEIGHT!r}"
    return ""


def _other(aggregate: str) -> str:
    return "aggregate_evaluate" if aggregate == "aggregate_train" else "aggregate_train"


def _resolved(cls: type, name: str) -> Any:
    return next((vars(owner)[name] for owner in cls.__mro__ if name in vars(owner)), None)


def _expected(cls: type, name: str) -> Any:
    """Return the function that the nearest linear class of Flower's uses for ``name``."""
    nearest = next(owner for owner in cls.__mro__ if owner in LINEAR)
    return next(_ORIGINAL[owner, name] for owner in nearest.__mro__ if (owner, name) in _ORIGINAL)
