"""A message whose tensors came from the fold goes out as a header that rests on the fold's object."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from common.child import shim
from common.child.blocks import ParentObject, Store
from common.child.records import SMALL, data_offset, decode_store, encode, encode_on

NAMES = ("a", "b")
DIGEST = "d" * 64


@pytest.fixture(autouse=True)
def blocks_under_arrays() -> None:
    shim.install(in_files=False)


def folded() -> tuple[RecordDict, ParentObject]:
    """Return a reply as a child decodes it, and the base it makes."""
    arrays = ArrayRecord({name: Array(np.full(SMALL, i, np.float32)) for i, name in enumerate(NAMES)})
    fd, size = encode(RecordDict({"arrays": arrays}))
    store = Store(fd)
    return decode_store(store, size), ParentObject(store, DIGEST, data_offset(fd), size)


def sent(arrays: ArrayRecord, round_: int = 2) -> RecordDict:
    return RecordDict({"model": arrays, "config": ConfigRecord({"server-round": round_})})


def metadata(fd: int) -> dict[str, str]:
    head = os.pread(fd, 1 << 16, 0)
    return dict(json.loads(head[8 : 8 + int.from_bytes(head[:8], "little")])["__metadata__"])


def test_what_came_from_the_fold_goes_out_as_a_header_and_is_read_from_the_base() -> None:
    reply, base = folded()
    message = sent(ArrayRecord.from_array_dict(dict(reply["arrays"].items())))
    fd, size, named = encode_on(base, message)
    assert (named, metadata(fd)["base"], size < 4096) == (DIGEST, DIGEST, True)
    got = decode_store(Store(fd), size, Store(os.dup(base.store.fd)))
    for index, name in enumerate(NAMES):
        np.testing.assert_array_equal(got["model"][name].numpy(), np.full(SMALL, index, np.float32))
    assert got["config"]["server-round"] == 2


def test_the_same_message_is_the_same_bytes_and_another_round_is_not() -> None:
    reply, base = folded()
    heads = []
    for round_ in (2, 2, 3):
        fd, size, _ = encode_on(base, sent(reply["arrays"], round_))
        heads.append(os.pread(fd, size, 0))
        os.close(fd)
    assert heads[0] == heads[1] != heads[2]


def changed(arrays: ArrayRecord) -> ArrayRecord:
    return ArrayRecord({"a": arrays["a"], "b": Array(arrays["b"].numpy() + 1)})


def fewer(arrays: ArrayRecord) -> ArrayRecord:
    return ArrayRecord({"a": arrays["a"]})


def other_order(arrays: ArrayRecord) -> ArrayRecord:
    return ArrayRecord({"b": arrays["b"], "a": arrays["a"]})


def twice(arrays: ArrayRecord) -> ArrayRecord:
    return ArrayRecord({"a": arrays["a"], "b": arrays["b"], "c": arrays["b"]})


@pytest.mark.parametrize("change", [changed, fewer, other_order, twice, lambda _arrays: ArrayRecord()])
def test_whatever_is_not_the_whole_base_in_its_order_is_an_object_of_its_own(change: object) -> None:
    reply, base = folded()
    message = sent(change(reply["arrays"]))  # type: ignore[operator]  # one of the functions above
    fd, size, named = encode_on(base, message)
    assert (named, "base" in metadata(fd)) == (None, False)
    got = decode_store(Store(fd), size)
    assert {name: array.numpy().tobytes() for name, array in got["model"].items()} == {
        name: array.numpy().tobytes() for name, array in message["model"].items()
    }


def test_an_older_reply_than_the_last_is_sent_whole() -> None:
    older, _ = folded()
    _, base = folded()
    fd, _, named = encode_on(base, sent(older["arrays"]))
    os.close(fd)
    assert named is None
