"""Runs a ClientApp: one message after the other in one warm process."""

from __future__ import annotations

import weakref
from typing import Any

from flwr.app import Context, Message, RecordDict

from common.child import shim
from common.child.blocks import Store
from common.child.devices import TorchBound
from common.child.loader import load, seed_all
from common.child.parent import Parent, Stop, failure
from common.child.records import decode, decode_store, encode, encode_lent

APP_RAISED = 2  # Flower's code of an error in the ClientApp


def run_client(parent: Parent, start: dict[str, Any]) -> None:
    """Run the ClientApp that ``start`` names until the parent sends ``end``."""
    shim.identify(start["run_id"], start["node_id"])
    bound = TorchBound(start.get("device_mib", ()))
    bound.install()
    try:
        seed_all(start["seed"])
        app = load(start["app_dir"], start["component"])
    except BaseException as error:  # noqa: BLE001 tenant code may raise anything; it becomes a typed failure
        parent.tell(failure(error))
        return
    parent.tell({"op": "ready"} | bound.said())
    context = Context(start["run_id"], start["node_id"], start["node_config"], RecordDict(), start["run_config"])
    while True:
        message, fds = parent.receive()
        if message["op"] == "end":
            return
        frame, out = _answer(app, context, message, fds)
        parent.tell(frame | bound.said(), out)


def _answer(app: Any, context: Context, message: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    try:
        shim.take_back()
        stores = [Store(fd) for fd in fds[: 2 if message.get("base") else 1]]  # the arrays are in the last of them
        used = weakref.ref(stores[-1])
        content = decode_store(stores[0], message["object"], *stores[1:])
        if message.get("state") is not None:
            context.state = decode(fds[len(stores)], message["state"])
        del stores
        if message.get("node_config") is not None:
            context.node_config = message["node_config"]
        seed_all(message["seed"])
        asked = _instruction(context, message, content)
        reply = app(asked, context)
        frame, out = _reply(reply, context)
        del content, asked, reply
        frame["read"] = used() is None  # an app may keep the arrays it was sent: they lie in the file
    except BaseException as error:  # noqa: BLE001 tenant code may raise anything; it becomes a typed error
        return {**failure(error), "op": "error", "code": APP_RAISED}, []
    return frame, out


def _instruction(context: Context, message: dict[str, Any], content: RecordDict) -> Message:
    return shim.instruction(
        content,
        run_id=context.run_id,
        message_id=message["id"],
        dst=context.node_id,
        kind=message["type"],
        group_id=message["group_id"],
        ttl=message["ttl"],
    )


def _reply(reply: Any, context: Context) -> tuple[dict[str, Any], list[int]]:
    if not isinstance(reply, Message):
        raise Stop("bad_reply", f"the ClientApp must return a Message, not {type(reply).__name__}")
    if reply.has_error():
        error = reply.error
        return {
            "op": "error", "code": error.code, "reason": "app_raised", "message": str(error.reason), "traceback": ""
        }, []  # fmt: skip
    fd, size = encode_lent(reply.content)
    if not context.state:
        return {"op": "reply", "object": size, "state": None}, [fd]
    state_fd, state_size = encode(context.state)
    return {"op": "reply", "object": size, "state": state_size}, [fd, state_fd]
