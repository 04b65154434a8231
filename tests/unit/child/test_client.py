"""What a ClientApp's process says of the instruction it was given: whether its file may be overwritten."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict

from common.child import client, shim
from common.child.records import SMALL, decode, encode, encode_lent

kept: list[Any] = []


@pytest.fixture(autouse=True)
def blocks_under_arrays() -> None:
    shim.install(in_files=False)


def answer(message: Message, arrays: ArrayRecord) -> Message:
    return Message(RecordDict({"arrays": arrays, "m": MetricRecord({"num-examples": 1})}), reply_to=message)


def forgets(message: Message, _context: Context) -> Message:
    values = message.content["arrays"]["w"].numpy()
    return answer(message, ArrayRecord({"w": Array(values + 1)}))


def keeps_a_view(message: Message, _context: Context) -> Message:
    kept.append(message.content["arrays"]["w"].numpy()[:1])
    return forgets(message, _context)


def keeps_the_record(message: Message, context: Context) -> Message:
    context.state["kept"] = message.content["arrays"]
    return forgets(message, context)


def sends_it_back(message: Message, _context: Context) -> Message:
    return answer(message, message.content["arrays"])


@pytest.mark.parametrize(
    ("app", "read"), [(forgets, True), (sends_it_back, True), (keeps_a_view, False), (keeps_the_record, False)]
)
def test_an_instruction_counts_as_read_once_the_app_holds_nothing_of_it(app: Any, read: bool) -> None:
    kept.clear()
    values = np.arange(SMALL, dtype=np.float32)
    fd, size = encode(RecordDict({"arrays": ArrayRecord({"w": Array(values)})}))
    context = Context(1, 2, {}, RecordDict(), {})
    facts = {"object": size, "seed": 1, "id": "m", "type": "train", "group_id": "", "ttl": 60.0}
    frame, out = client._answer(app, context, facts, [fd])
    for each in out:
        os.close(each)
    assert frame["op"] == "reply", frame
    assert frame["read"] is read


@pytest.mark.parametrize("keeps", [False, True])
def test_an_answer_is_written_where_the_last_one_was_unless_the_app_still_has_it(keeps: bool) -> None:
    shim.install(in_files=True)
    shim.take_back()
    kept.clear()
    seen = []
    for round_ in (1, 2, 3):
        shim.take_back()
        arrays = ArrayRecord({"w": Array(np.full(SMALL, round_, np.float32))})
        fd, size = encode_lent(RecordDict({"arrays": arrays}))
        seen.append((os.fstat(fd).st_ino, decode(fd, size)["arrays"]["w"].numpy().copy()))
        if keeps:
            kept.append(arrays)
        del arrays
    assert len({inode for inode, _ in seen}) == (3 if keeps else 1)
    assert [set(values) for _, values in seen] == [{1.0}, {2.0}, {3.0}]
    assert [set(record["w"].numpy()) for record in kept] == ([{1.0}, {2.0}, {3.0}] if keeps else [])
    kept.clear()
    shim.install(in_files=False)
