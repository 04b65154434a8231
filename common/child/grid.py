"""Our ``Grid``: what a ServerApp calls to reach its nodes, over whatever carries the messages.

Rules:
    1. The Grid iterates ``messages`` itself: strategies may make them lazily.
    2. Each broadcast tensor keeps the dtype of its first train broadcast, since averaging in Flower turns int64 and
       float32 into float64; integers are rounded, never passed on as floats.
    3. Asking for nodes again and again without sending anything ends in ``too_few_nodes``: Flower would ask for ever.
    4. What stopped the job stops each later call too, even where the app catches it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid as FlowerGrid

from common.child import shim
from common.child.fold import Verdict, judge, strategy_calling
from common.child.parent import Stop

ROUND_KEY = "server-round"
_OLDER = ("fitins.", "evaluateins.")  # records of Flower's older style
POLL_LIMIT_S = 10.0  # of asking for nodes without an exchange: from then on people see who is waited for
POLL_GAP_S = 5.0  # two questions further apart than this are no polling
T = TypeVar("T")


@dataclass(frozen=True)
class Exchange:
    """Messages to carry, their contents in the dtypes they travel in (shared contents are one object)."""

    messages: list[Message]
    contents: list[RecordDict]
    verdict: Verdict
    timeout: float | None
    round: int


@dataclass(frozen=True)
class Answer:
    """What came back for one message; ``key`` is its slot, or its id after a push."""

    key: int | str
    src: int
    content: RecordDict | None
    error: Error | None


class Carrier(Protocol):
    """Takes messages to the nodes.  1. Each call ends or raises ``Stop``.  2. A folded exchange has one answer."""

    def nodes(self) -> list[int]: ...
    def exchange(self, exchange: Exchange) -> list[Answer]: ...
    def push(self, exchange: Exchange) -> list[str]: ...
    def pull(self, ids: list[str]) -> list[Answer]: ...


class Grid(FlowerGrid):
    """Flower's Grid over a ``Carrier``.

    Args:
        carrier: Takes the messages to the nodes.
        run_id: Flower's id of this run.
        aggregation: The job's setting, "auto" or "mean".
        on_exchange: Called with the round and the strategy's frame before each exchange; for progress.
        now: Monotonic seconds.
    """

    def __init__(
        self,
        carrier: Carrier,
        run_id: int,
        aggregation: str = "auto",
        on_exchange: Callable[[int, str], None] = lambda _round, _kind: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._carrier = carrier
        self._run = shim.make_run(run_id)
        self._aggregation = aggregation
        self._on_exchange = on_exchange
        self._now = now
        self._pins = Pins()
        self._sequence = 0
        self._pushed: dict[str, Message] = {}
        self._polling_since = self._polled_at = float("-inf")
        self.stopped: Stop | None = None

    def set_run(self, run: Any) -> None:
        """Replace the description of the run."""
        self._run = run

    @property
    def run(self) -> Any:
        """The description of the run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a new message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the job's roster.

        Raises:
            Stop: ``too_few_nodes`` if the app has been asking for longer than ``POLL_LIMIT_S``.
        """
        ids = self._guarded(self._carrier.nodes)
        now = self._now()
        if now - self._polled_at > POLL_GAP_S:
            self._polling_since = now
        self._polled_at = now
        if now - self._polling_since > POLL_LIMIT_S:
            self._stop(Stop("too_few_nodes", f"the app waits for more nodes than the {len(ids)} of the job's roster"))
        return list(ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send ``messages`` and return the replies: one for all of them where the exchange folds."""
        strategy = strategy_calling()
        batch = list(messages)
        if not batch:
            return []
        exchange = self._prepare(batch, strategy, timeout)
        self._on_exchange(exchange.round, batch[0].metadata.message_type)
        answers = self._guarded(lambda: self._carrier.exchange(exchange))
        return [self._reply(batch[int(answer.key)], answer) for answer in answers]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send ``messages`` and return their ids."""
        batch = list(messages)
        if not batch:
            return []
        exchange = self._prepare(batch, None, None)
        single = replace(exchange, verdict=Verdict(fold=False, why="app calls the Grid itself"))
        ids = self._guarded(lambda: self._carrier.push(single))
        for message, message_id in zip(batch, ids, strict=True):
            shim.set_message_id(message, message_id)
            # The content is not needed for the reply and may be large.
            self._pushed[message_id] = shim.without_content(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that have come to messages pushed before, each once."""
        wanted = [message_id for message_id in message_ids if message_id in self._pushed]
        if not wanted:
            return []
        answers = self._guarded(lambda: self._carrier.pull(wanted))
        return [self._reply(self._pushed.pop(str(answer.key)), answer) for answer in answers]

    def final_dtypes(self, arrays: ArrayRecord, record: str) -> ArrayRecord:
        """Return the job's result in the dtypes that it was broadcast in."""
        return self._pins.restored(record, arrays)

    def _prepare(self, batch: list[Message], strategy: Any, timeout: float | None) -> Exchange:
        self._polling_since = self._polled_at = float("-inf")
        self._sequence += 1
        kinds = {message.metadata.message_type for message in batch}
        verdict = judge(batch[0].metadata.message_type, strategy, self._aggregation)
        if len(kinds) > 1:
            verdict = Verdict(fold=False, why="one exchange has messages of several types")
        sent: dict[int, RecordDict] = {}
        contents: list[RecordDict] = []
        for slot, message in enumerate(batch):
            if not message.metadata.message_id:
                shim.set_message_id(message, f"{self._sequence}.{slot}")
            content = message.content
            if id(content) not in sent:
                sent[id(content)] = self._pins.applied(content, message.metadata.message_type)
            contents.append(sent[id(content)])
        return Exchange(batch, contents, verdict, timeout, _round_of(batch[0]))

    def _reply(self, to: Message, answer: Answer) -> Message:
        return shim.reply(
            to, answer.content, answer.error, message_id=f"{to.metadata.message_id}.reply", src=answer.src
        )

    def _guarded(self, call: Callable[[], T]) -> T:
        if self.stopped is not None:
            raise self.stopped
        try:
            return call()
        except Stop as stop:
            self._stop(stop)

    def _stop(self, stop: Stop) -> NoReturn:
        self.stopped = stop
        raise stop


class Pins:
    """The dtype of each broadcast tensor, as it was in the first train broadcast that had it."""

    def __init__(self) -> None:
        self._dtypes: dict[tuple[str, str], str] = {}

    def applied(self, content: RecordDict, kind: str) -> RecordDict:
        """Return ``content`` with its pinned dtypes; itself where nothing is to change."""
        category = kind.partition(".")[0]
        if category not in {"train", "evaluate"}:
            return content
        records = dict(content.items())
        changed = False
        for name, record in content.items():
            if not isinstance(record, ArrayRecord):
                continue
            if category == "train":
                for key, array in record.items():
                    self._dtypes.setdefault((name, key), array.dtype)
            records[name] = self.restored(name, record)
            changed = changed or records[name] is not record
        return RecordDict(records) if changed else content

    def restored(self, name: str, record: ArrayRecord) -> ArrayRecord:
        """Return ``record`` in the dtypes pinned for its name; itself where they are the same."""
        wanted = {key: self._dtypes.get((name, key), array.dtype) for key, array in record.items()}
        if all(array.dtype == wanted[key] for key, array in record.items()):
            return record
        result = ArrayRecord()
        for key, array in record.items():
            result[key] = array if array.dtype == wanted[key] else shim.cast_array(array, wanted[key])
        return result


def _round_of(message: Message) -> int:
    """Return the round in the message's configuration, or, from Flower's older style, in its group; 0 if unknown."""
    content, group = message.content, message.metadata.group_id
    if group.isdecimal() and any(name.startswith(_OLDER) for name in content):
        return int(group)
    for record in content.values():
        if isinstance(record, ConfigRecord) and isinstance(record.get(ROUND_KEY), int):
            return int(record[ROUND_KEY])  # type: ignore[arg-type]
    return 0
