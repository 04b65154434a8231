import pytest

from common.ids import Digest, NodeId
from coordinator.domain.exchanges import ExchangeKind, Instruction
from coordinator.services.calls import Call, unfit_for_means


def call(*nodes: str, fold: bool = True, why: str = "") -> Call:
    asked = tuple(
        Instruction(slot, NodeId(node), "train", Digest("0" * 64), 1, "", 1.0) for slot, node in enumerate(nodes)
    )
    return Call(ExchangeKind.EXCHANGE, fold, why, 1.0, 1, asked)


def test_a_mean_of_two_nodes_or_more_is_for_the_app_to_see():
    assert unfit_for_means(call("a", "b")) == ""
    assert unfit_for_means(call("a", "b", "c")) == ""


@pytest.mark.parametrize("nodes", [("a",), ("a", "a"), ("a", "a", "b")])
def test_a_mean_in_which_one_node_could_stand_alone_is_not(nodes):
    assert "no mean of 2 or more" in unfit_for_means(call(*nodes))


def test_replies_one_by_one_are_not_and_the_reason_is_the_strategys():
    assert "strategy FedMedian" in unfit_for_means(call("a", "b", fold=False, why="strategy FedMedian has its own"))
