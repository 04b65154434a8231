"""Carries a ServerApp's messages to its parent process, one frame and one object for each distinct content."""

from __future__ import annotations

from typing import Any

from flwr.app import Error, RecordDict

from common.child import frames
from common.child.grid import Answer, Exchange
from common.child.parent import Parent, Stop
from common.child.records import decode, encode


class ParentCarrier:
    """A ``Carrier`` over the socketpair."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent

    def nodes(self) -> list[int]:
        """Return the fixed roster."""
        answer, _ = self._parent.ask({"op": "nodes"})
        return list(answer["ids"])

    def exchange(self, exchange: Exchange) -> list[Answer]:
        """Ask the nodes and wait for the replies."""
        answer, fds = self._send("exchange", exchange)
        return _answers(answer, fds, "slot")

    def push(self, exchange: Exchange) -> list[str]:
        """Hand the messages over and return the ids to pull with."""
        answer, _ = self._send("push", exchange)
        return list(answer["ids"])

    def pull(self, ids: list[str]) -> list[Answer]:
        """Return the replies that have come."""
        answer, fds = self._parent.ask({"op": "pull", "ids": ids, "timeout": None})
        return _answers(_accepted(answer), fds, "id")

    def _send(self, op: str, exchange: Exchange) -> tuple[dict[str, Any], list[int]]:
        index: dict[int, int] = {}
        sizes: list[int] = []
        fds: list[int] = []
        for content in exchange.contents:
            if id(content) not in index:
                if len(fds) == frames.MAX_FDS:
                    raise Stop("refused", f"one exchange may carry at most {frames.MAX_FDS} different contents")
                index[id(content)] = len(fds)
                fd, size = encode(content)
                fds.append(fd)
                sizes.append(size)
        answer, answer_fds = self._parent.ask(_frame(op, exchange, index, sizes), fds)
        return _accepted(answer), answer_fds


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


def _answers(answer: dict[str, Any], fds: list[int], key: str) -> list[Answer]:
    contents = [decode(fd, size) for fd, size in zip(fds, answer["objects"], strict=True)]
    return [_answer(reply, key, contents) for reply in answer["replies"]]


def _answer(reply: dict[str, Any], key: str, contents: list[RecordDict]) -> Answer:
    error = reply.get("error")
    content = contents[reply["object"]] if reply.get("object") is not None else None
    return Answer(reply[key], reply["src"], content, Error(int(error[0]), str(error[1])) if error else None)
