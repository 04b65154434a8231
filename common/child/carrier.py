"""Carries a ServerApp's messages to its parent process, one frame and one object for each distinct content."""

from __future__ import annotations

from typing import Any

from flwr.app import Error, RecordDict

from common.child import frames
from common.child.blocks import ParentObject, Store
from common.child.grid import Answer, Exchange
from common.child.parent import Parent, Stop
from common.child.records import data_offset, decode_store, encode_on


class ParentCarrier:
    """A ``Carrier`` over the socketpair."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._base: ParentObject | None = None  # the last folded reply: what is sent on unchanged rests on it

    def nodes(self) -> list[int]:
        """Return the fixed roster."""
        answer, _ = self._parent.ask({"op": "nodes"})
        return list(answer["ids"])

    def exchange(self, exchange: Exchange) -> list[Answer]:
        """Ask the nodes and wait for the replies."""
        answer, fds = self._send("exchange", exchange)
        return self._answers(answer, fds, "slot")

    def push(self, exchange: Exchange) -> list[str]:
        """Hand the messages over and return the ids to pull with."""
        answer, _ = self._send("push", exchange)
        return list(answer["ids"])

    def pull(self, ids: list[str]) -> list[Answer]:
        """Return the replies that have come."""
        answer, fds = self._parent.ask({"op": "pull", "ids": ids, "timeout": None})
        return self._answers(_accepted(answer), fds, "id")

    def _send(self, op: str, exchange: Exchange) -> tuple[dict[str, Any], list[int]]:
        index: dict[int, int] = {}
        sizes: list[int] = []
        bases: list[str | None] = []
        fds: list[int] = []
        for content in exchange.contents:
            if id(content) not in index:
                if len(fds) == frames.MAX_FDS:
                    raise Stop("refused", f"one exchange may carry at most {frames.MAX_FDS} different contents")
                index[id(content)] = len(fds)
                fd, size, base = encode_on(self._base, content)
                fds.append(fd)
                sizes.append(size)
                bases.append(base)
        frame = {**_frame(op, exchange, index, sizes), "bases": bases}
        answer, answer_fds = self._parent.ask(frame, fds)
        return _accepted(answer), answer_fds

    def _answers(self, answer: dict[str, Any], fds: list[int], key: str) -> list[Answer]:
        stores = [Store(fd) for fd in fds]
        sizes = answer["objects"]
        if answer.get("base") is not None:  # told of the one object of a fold
            self._base = ParentObject(stores[0], answer["base"], data_offset(fds[0]), sizes[0])
        contents = [decode_store(store, size) for store, size in zip(stores, sizes, strict=True)]
        return [_answer(reply, key, contents) for reply in answer["replies"]]


def _frame(op: str, exchange: Exchange, index: dict[int, int], sizes: list[int]) -> dict[str, Any]:
    messages = [
        {
            "slot": slot,
            "dst": message.metadata.dst_node_id,
            "type": message.metadata.message_type,
            "object": index[id(content)],
            "group_id": message.metadata.group_id,
            "ttl": message.metadata.ttl,
        }
        for slot, (message, content) in enumerate(zip(exchange.messages, exchange.contents, strict=True))
    ]
    return {
        "op": op,
        "fold": exchange.verdict.fold,
        "why": exchange.verdict.why,
        "timeout": exchange.timeout,
        "round": exchange.round,
        "messages": messages,
        "objects": sizes,
    }


def _accepted(answer: dict[str, Any]) -> dict[str, Any]:
    if answer["op"] == "refused":
        raise Stop(str(answer.get("reason", "refused")), str(answer.get("message", "the exchange was refused")))
    return answer


def _answer(reply: dict[str, Any], key: str, contents: list[RecordDict]) -> Answer:
    error = reply.get("error")
    content = contents[reply["object"]] if reply.get("object") is not None else None
    return Answer(reply[key], reply["src"], content, Error(int(error[0]), str(error[1])) if error else None)
