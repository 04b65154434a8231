"""The Grid: lazily made messages, pinned dtypes, polls that end, and a stop that cannot be swallowed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from common.child import shim
from common.child.grid import Answer, Exchange, Grid, Pins
from common.child.parent import Stop


@pytest.fixture(autouse=True)
def _flower_as_in_a_child() -> None:
    shim.install(in_files=False)
    shim.identify(7, shim.SERVER_NODE)


class Nodes:
    """A carrier that answers with what it was sent, and remembers it."""

    def __init__(self, count: int = 3) -> None:
        self.roster = [10 + i for i in range(count)]
        self.sent: list[Exchange] = []
        self.refusal: Stop | None = None

    def nodes(self) -> list[int]:
        return self.roster

    def exchange(self, exchange: Exchange) -> list[Answer]:
        self.sent.append(exchange)
        if self.refusal:
            raise self.refusal
        pairs = enumerate(zip(exchange.messages, exchange.contents, strict=True))
        return [Answer(slot, message.metadata.dst_node_id, content, None) for slot, (message, content) in pairs]

    def push(self, exchange: Exchange) -> list[str]:
        return [f"id{answer.key}" for answer in self.exchange(exchange)]

    def pull(self, ids: list[str]) -> list[Answer]:
        return [Answer(ids[0], 10, None, Error(2, "the app raised"))]


def content(value: np.ndarray, number: int = 1) -> RecordDict:
    return RecordDict({"arrays": ArrayRecord({"w": Array(value)}), "config": ConfigRecord({"server-round": number})})


def test_messages_may_be_made_while_they_are_sent() -> None:
    nodes = Nodes()
    grid = Grid(nodes, 7)

    def lazily() -> Iterator[Message]:
        for node in grid.get_node_ids():
            yield Message(content(np.ones(2)), node, "train")

    assert len(list(grid.send_and_receive(lazily()))) == 3


def test_replies_know_whom_they_answer() -> None:
    grid = Grid(Nodes(), 7)
    sent = [grid.create_message(content(np.ones(2), 4), "train.mine", node, "group") for node in (12, 10)]
    replies = list(grid.send_and_receive(sent, timeout=5))
    for message, reply in zip(sent, replies, strict=True):
        facts = reply.metadata
        assert facts.reply_to_message_id == message.metadata.message_id != ""
        assert (facts.src_node_id, facts.dst_node_id) == (message.metadata.dst_node_id, shim.SERVER_NODE)
        assert (facts.run_id, facts.group_id, facts.message_type) == (7, "group", "train.mine")
        assert reply.has_content()
        assert not reply.has_error()


def test_one_content_for_all_nodes_stays_one() -> None:
    nodes = Nodes()
    shared = content(np.ones(2, np.float32), 3)
    Grid(nodes, 7).send_and_receive([Message(shared, node, "train") for node in nodes.roster])
    assert len({id(one) for one in nodes.sent[0].contents}) == 1
    assert nodes.sent[0].round == 3


@pytest.mark.parametrize(
    ("first", "later", "expected"),
    [
        (np.array([3], np.int64), np.array([11.5]), np.array([12], np.int64)),
        (np.array([3], np.int8), np.array([400.0]), np.array([127], np.int8)),
        (np.array([3], np.int64), np.array([1e30]), np.array([2**63 - 1], np.int64)),
        (np.array([3], np.uint8), np.array([-4.0]), np.array([0], np.uint8)),
        (np.array([1], np.float32), np.array([0.1]), np.array([0.1], np.float32)),
        (np.array([1], np.float16), np.array([0.1], np.float32), np.array([0.1], np.float16)),
        (np.array([True]), np.array([1.0]), np.array([True])),
    ],
)
def test_a_broadcast_keeps_the_dtypes_of_its_first_round(
    first: np.ndarray, later: np.ndarray, expected: np.ndarray
) -> None:
    nodes = Nodes(1)
    grid = Grid(nodes, 7)
    grid.send_and_receive([Message(content(first), 10, "train")])
    for kind in ("train", "evaluate"):
        grid.send_and_receive([Message(content(later), 10, kind)])
        sent = nodes.sent[-1].contents[0]["arrays"]["w"]
        assert sent.dtype == str(first.dtype)
        np.testing.assert_array_equal(sent.numpy(), expected)
    assert grid.final_dtypes(content(later)["arrays"], "arrays")["w"].dtype == str(first.dtype)


def test_query_messages_and_new_keys_are_not_pinned() -> None:
    pins = Pins()
    pins.applied(content(np.ones(1, np.float32)), "train")
    wide = content(np.ones(1))
    assert pins.applied(wide, "query") is wide
    other = RecordDict({"arrays": ArrayRecord({"other": Array(np.ones(1))})})
    assert pins.applied(other, "train") is other


def test_the_apps_own_record_is_left_as_it_was() -> None:
    pins = Pins()
    pins.applied(content(np.ones(1, np.float32)), "train")
    wide = content(np.ones(1))
    assert pins.applied(wide, "train") is not wide
    assert wide["arrays"]["w"].dtype == "float64"


def test_waiting_for_more_nodes_than_there_are_ends_with_their_number() -> None:
    times = iter(float(second) for second in range(100))
    grid = Grid(Nodes(3), 7, now=lambda: next(times))

    def wait() -> None:
        for _ in range(15):  # seconds: people should soon see who is waited for
            grid.get_node_ids()

    with pytest.raises(Stop, match="than the 3 of the job's roster") as stop:
        wait()
    assert stop.value.reason == "too_few_nodes"


def test_asking_now_and_then_is_not_waiting() -> None:
    times = iter(10.0 * i for i in range(100))
    grid = Grid(Nodes(3), 7, now=lambda: next(times))
    for _ in range(60):
        assert grid.get_node_ids() == [10, 11, 12]


def test_an_exchange_begins_the_wait_anew() -> None:
    times = iter(float(second) for second in range(200))
    nodes = Nodes(1)
    grid = Grid(nodes, 7, now=lambda: next(times))
    for _ in range(6):
        for _ in range(8):
            grid.get_node_ids()
        grid.send_and_receive([Message(content(np.ones(1)), 10, "train")])


def test_a_refusal_passes_through_except_exception_and_comes_again() -> None:
    nodes = Nodes()
    nodes.refusal = Stop("refused", "policy forbids plaintext updates")
    grid = Grid(nodes, 7)

    def app() -> None:
        with contextlib.suppress(Exception):
            grid.send_and_receive([Message(content(np.ones(1)), 10, "train")])

    with pytest.raises(Stop):
        app()
    nodes.refusal = None
    with pytest.raises(Stop, match="policy forbids"):
        grid.get_node_ids()
    assert grid.stopped is not None


def test_nothing_to_send_asks_nobody() -> None:
    nodes = Nodes()
    grid = Grid(nodes, 7)
    assert list(grid.send_and_receive([])) == []
    assert list(grid.push_messages([])) == []
    assert list(grid.pull_messages(["unknown"])) == []
    assert nodes.sent == []


def test_a_pulled_error_is_an_error_reply_and_comes_once() -> None:
    grid = Grid(Nodes(), 7)
    (message_id, *_) = grid.push_messages([Message(RecordDict({"m": MetricRecord({"x": 1})}), 10, "train")])
    (reply,) = grid.pull_messages([message_id])
    assert reply.has_error()
    assert (reply.error.code, reply.error.reason, reply.metadata.reply_to_message_id) == (
        2,
        "the app raised",
        message_id,
    )
    assert list(grid.pull_messages([message_id])) == []


def test_messages_of_several_types_in_one_exchange_are_not_folded() -> None:
    nodes = Nodes()
    grid = Grid(nodes, 7, "mean")
    grid.send_and_receive([Message(content(np.ones(1)), 10, "train"), Message(content(np.ones(1)), 11, "evaluate")])
    assert not nodes.sent[0].verdict.fold
    grid.send_and_receive([Message(content(np.ones(1)), 10, "train")])
    assert nodes.sent[1].verdict.fold


def test_the_run_is_there_for_flowers_older_code() -> None:
    grid = Grid(Nodes(), 7)
    assert grid.run.run_id == 7
    assert [info.node_id for info in grid.get_nodes()] == [10, 11, 12]
    grid.set_run(grid.run)


def test_what_flower_makes_of_a_message_is_what_the_shim_makes() -> None:
    """The shim writes Flower's private fields; this says so when Flower changes them."""
    public = Message(RecordDict(), 5, "train", ttl=9.0, group_id="g")
    ours = shim.instruction(RecordDict(), run_id=7, message_id="", dst=5, kind="train", group_id="g", ttl=9.0)
    assert public.__dict__.keys() == ours.__dict__.keys()
    assert public.metadata.__dict__.keys() == ours.metadata.__dict__.keys()
    for name in (
        "run_id",
        "src_node_id",
        "dst_node_id",
        "message_type",
        "group_id",
        "ttl",
        "delivered_at",
        "message_id",
    ):
        assert getattr(public.metadata, name) == getattr(ours.metadata, name), name
    assert set(RecordDict().__dict__) == set(shim.shell(RecordDict()).__dict__)
    assert {"aggregate_train", "aggregate_evaluate", "_check_and_log_replies"} <= set(dir(FedAvg))
