import os
import socket
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from common.child import frames

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda c: st.lists(c) | st.dictionaries(st.text(), c),
    max_leaves=12,
)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_what_is_sent_is_received(message):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frames.send(ours, message)
        assert frames.receive(theirs) == (message, [])


def test_descriptors_travel_with_their_frame(pair):
    ours, theirs = pair
    reader, writer = os.pipe()
    frames.send(ours, {"op": "a"})
    frames.send(ours, {"op": "b"}, [writer])
    assert frames.receive(theirs) == ({"op": "a"}, [])
    message, fds = frames.receive(theirs)
    assert message == {"op": "b"}
    os.write(fds[0], b"x")
    assert os.read(reader, 1) == b"x"
    for fd in (*fds, reader, writer):
        os.close(fd)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", frames.MAX_FRAME + 1),
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 3) + b"{x}",
        b"\0\0\0\x09{",
    ],
)
def test_what_is_no_frame_is_refused(pair, data):
    ours, theirs = pair
    ours.sendall(data)
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(frames.FrameError):
        frames.receive(theirs)


def test_a_clean_end_is_none(pair):
    ours, theirs = pair
    ours.shutdown(socket.SHUT_WR)
    assert frames.receive(theirs) is None


def test_an_object_is_a_safetensors_file():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    b = np.array([1, 2], dtype=np.int64)
    head = frames.object_header([("r/a", "F32", (2, 3), 24), ("r/b", "I64", (2,), 16)], {"hansa": "{}"})
    assert len(head) % frames.HEADER_ALIGN == 0
    read = safetensors.numpy.load(head + a.tobytes() + b.tobytes())
    np.testing.assert_array_equal(read["r/a"], a)
    np.testing.assert_array_equal(read["r/b"], b)
    table, at = frames.read_object_header(head + a.tobytes() + b.tobytes())
    assert at == len(head)
    assert table["r/b"]["data_offsets"] == [24, 40]
