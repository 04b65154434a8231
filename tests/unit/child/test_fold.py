"""Which exchanges fold: Flower's own linear strategies, and nothing that only looks like them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import flwr.serverapp.strategy as flower
import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedMedian, FedProx, FedYogi, Strategy

from common.child import fold, shim
from common.child.grid import Answer, Exchange, Grid
from common.child.simulate import VirtualNodes

NODES = 4
LINEAR = [FedAvg, FedProx, FedAvgM, FedAdam, FedYogi, FedAdagrad]


@pytest.fixture(autouse=True)
def _flower_as_in_a_child() -> None:
    shim.install(in_files=False)
    shim.identify(1, shim.SERVER_NODE)


def client_app() -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(msg: Message, context: Context) -> Message:
        part = int(context.node_config["partition-id"])
        arrays = [a + np.float32(0.1 * (part + 1)) * (a + 1) for a in msg.content["arrays"].to_numpy_ndarrays()]
        metrics = MetricRecord({"num-examples": 3 + 2 * part, "loss": 1.0 / (part + 1), "curve": [1.0 * part, 2.0]})
        return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=msg)

    @app.evaluate()
    def evaluate(msg: Message, context: Context) -> Message:
        part = int(context.node_config["partition-id"])
        norm = float(sum(np.abs(a).sum() for a in msg.content["arrays"].to_numpy_ndarrays()))
        metrics = MetricRecord({"num-examples": 1 + part, "norm": norm * (1 + part)})
        return Message(RecordDict({"metrics": metrics}), reply_to=msg)

    return app


class Recorder(VirtualNodes):
    """Virtual nodes that remember the verdicts, and can be told never to fold."""

    def __init__(self, *, individual: bool) -> None:
        facts = {"run_id": 1, "run_config": {}, "seed": 0, "node_config": {}}
        super().__init__(client_app(), NODES, facts, lambda _frame: None)
        self.individual = individual
        self.verdicts: list[tuple[str, fold.Verdict]] = []

    def exchange(self, exchange: Exchange) -> list[Answer]:
        self.verdicts.append((exchange.messages[0].metadata.message_type, exchange.verdict))
        if self.individual:
            exchange = replace(exchange, verdict=fold.Verdict(fold=False))
        return super().exchange(exchange)


def run(
    strategy: Strategy, *, individual: bool = False, aggregation: str = "auto", rounds: int = 3
) -> tuple[Any, Recorder]:
    nodes = Recorder(individual=individual)
    grid = Grid(nodes, 1, aggregation)
    # No element at the clients' fixed point of -1: there FedAdagrad divides rounding noise by itself.
    initial = ArrayRecord([np.linspace(-0.5, 1, 12, dtype=np.float32).reshape(3, 4), np.ones(2, np.float32)])
    return strategy.start(grid, initial, num_rounds=rounds), nodes


@pytest.mark.parametrize("cls", LINEAR)
def test_a_linear_strategy_gives_the_same_result_from_one_folded_reply(cls: type[FedAvg]) -> None:
    options = {"server_momentum": 0.9, "server_learning_rate": 0.7} if cls is FedAvgM else {}
    folded, nodes = run(cls(**options))
    single, _ = run(cls(**options), individual=True)
    assert all(verdict == fold.Verdict(fold=True) for _, verdict in nodes.verdicts)
    assert len(nodes.verdicts) == 6
    for ours, theirs in zip(folded.arrays.to_numpy_ndarrays(), single.arrays.to_numpy_ndarrays(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    for kind in ("train_metrics_clientapp", "evaluate_metrics_clientapp"):
        ours, theirs = getattr(folded, kind), getattr(single, kind)
        assert ours.keys() == theirs.keys()
        for number, metrics in theirs.items():
            assert metrics.keys() == ours[number].keys()
            for key, value in metrics.items():
                np.testing.assert_allclose(ours[number][key], value, rtol=1e-6)


def options_of(name: str) -> dict[str, Any]:
    return {
        "FedTrimmedAvg": {"beta": 0.25}, "Bulyan": {"num_malicious_nodes": 0}, "Krum": {"num_malicious_nodes": 0},
        "QFedAvg": {"client_learning_rate": 0.1},
        "MultiKrum": {"num_malicious_nodes": 0, "num_nodes_to_select": 2},
    }.get(name, {})  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(flower.__all__) - {"Strategy", "Result"}))
def test_each_of_flowers_strategies_is_judged_by_what_it_does(name: str) -> None:
    cls = getattr(flower, name)
    if name.startswith("DifferentialPrivacy"):
        options: dict[str, Any] = {"noise_multiplier": 0.1, "num_sampled_clients": 2}
        options |= {} if "Adaptive" in name else {"clipping_norm": 1.0}
        strategy = cls(FedAvg(), **options)
    else:
        strategy = cls(**options_of(name))
    train = fold.judge("train", strategy, "auto")
    evaluate = fold.judge("evaluate", strategy, "auto")
    linear = {cls.__name__ for cls in LINEAR}
    assert train.fold == (name in linear)
    assert bool(train.why) != train.fold
    # Median and its like still take the plain weighted mean of evaluation metrics.
    averages_metrics = isinstance(strategy, FedAvg) and cls.aggregate_evaluate is FedAvg.aggregate_evaluate
    assert evaluate.fold == averages_metrics


class OwnAggregate(FedAvg):
    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        return super().aggregate_train(server_round, list(replies)[:1])


class OwnCheck(FedAdam):
    def _check_and_log_replies(self, replies: Any, is_train: bool, validate: bool = True) -> Any:
        return super()._check_and_log_replies(list(replies)[:1], is_train, validate)


class Between(FedAvg):
    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        return super().aggregate_train(server_round, list(replies)[:1])


class Mixed(FedAdam, Between):
    """Its ``aggregate_train`` is FedAdam's, whose ``super()`` leads to ``Between``."""


class OwnEvaluate(FedAvg):
    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> Any:
        return super().aggregate_evaluate(server_round, replies)


class OnlyConfigures(FedAvg):
    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Any) -> Any:
        config["lr"] = 0.1 / server_round
        return super().configure_train(server_round, arrays, config, grid)


def own_metrics(records: list[RecordDict], key: str) -> MetricRecord:
    return MetricRecord({"count": len(records)})


@pytest.mark.parametrize(
    ("strategy", "why"),
    [
        (OwnAggregate(), "strategy OwnAggregate has its own aggregate_train"),
        (OwnCheck(), "strategy overrides _check_and_log_replies"),
        (Mixed(), "strategy overrides aggregate_train"),
        (FedMedian(), "strategy FedMedian has its own aggregate_train"),
        (FedAvg(train_metrics_aggr_fn=own_metrics), "metric function is the app's own"),
        (FedAvg(weighted_by_key="num-batches"), "strategy weighs by 'num-batches', not 'num-examples'"),
        (None, "app calls the Grid itself"),
    ],
)
def test_what_only_looks_linear_gets_individual_replies_and_the_reason(strategy: Any, why: str) -> None:
    assert fold.judge("train", strategy, "auto") == fold.Verdict(fold=False, why=why)
    assert fold.judge("train", strategy, "mean") == fold.Verdict(fold=True)


def test_a_function_on_the_instance_counts_as_an_override() -> None:
    strategy = FedAvg()
    strategy.aggregate_train = lambda _round, replies: (None, None)  # type: ignore[method-assign]
    assert not fold.judge("train", strategy, "auto").fold
    assert fold.judge("evaluate", strategy, "auto").fold


def test_a_change_inside_flower_counts_as_an_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flwr.serverapp.strategy.fedavg.aggregate_arrayrecords", lambda records, key: None)
    assert fold.judge("train", FedAvg(), "auto").why == "app changed a function of Flower"
    monkeypatch.undo()
    monkeypatch.setattr(FedAvg, "aggregate_train", lambda self, server_round, replies: (None, None))
    assert fold.judge("train", FedAvg(), "auto").why == "strategy FedAvg has its own aggregate_train"


def test_a_strategy_may_have_its_own_configuration_and_still_fold() -> None:
    _, nodes = run(OnlyConfigures(), rounds=1)
    assert [verdict.fold for _, verdict in nodes.verdicts] == [True, True]


def test_an_overridden_evaluation_leaves_training_folded() -> None:
    _, nodes = run(OwnEvaluate(), rounds=1)
    assert [(kind, verdict.fold) for kind, verdict in nodes.verdicts] == [("train", True), ("evaluate", False)]


class AsksFirst(FedAvg):
    """Sends train messages of its own while it configures a round: those are not Flower's to average."""

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Any) -> Any:
        probe = RecordDict({"arrays": arrays, "config": config})
        own = list(grid.send_and_receive([Message(probe, node, "train") for node in grid.get_node_ids()]))
        assert len(own) == NODES
        yield from super().configure_train(server_round, arrays, config, grid)


def test_messages_sent_from_inside_a_strategy_are_not_taken_for_its_round() -> None:
    _, nodes = run(AsksFirst(fraction_evaluate=0.0), rounds=1)
    assert [(verdict.fold, verdict.why) for _, verdict in nodes.verdicts] == [
        (False, "app calls the Grid itself"), (True, ""),
    ]  # fmt: skip


@pytest.mark.parametrize("aggregation", ["auto", "mean"])
def test_query_replies_are_never_folded(aggregation: str) -> None:
    assert not fold.judge("query.count", FedAvg(), aggregation).fold
