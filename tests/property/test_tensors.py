"""Laws of the tensor formats."""

from __future__ import annotations

import numpy as np
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.errors import BadUpdate, PlatformError
from common.tensors.content import build_header, parse_content
from common.tensors.dtypes import NUMPY, name_of, view
from common.tensors.safe import ContentLimits, parse_table

DTYPES = st.sampled_from([d for d in NUMPY.values() if d is not None])
ARRAYS = DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="\x7f"), min_size=1, max_size=9)
NAMES = NAMES.filter(str.isprintable)
VALUES = st.one_of(st.integers(-(2**60), 2**60), st.floats(allow_nan=False), st.lists(st.integers(-9, 9), max_size=3))


@given(st.dictionaries(NAMES, ARRAYS, max_size=4), st.dictionaries(NAMES, VALUES, max_size=4))
def test_reading_what_was_built_gives_it_back(arrays, metrics):
    rows = [("r", key, name_of(a.dtype), a.shape, a.nbytes) for key, a in arrays.items()]
    header = build_header([("r", "array"), ("m", "metric")], rows, {"m": metrics}, {})
    data = header + b"".join(a.tobytes() for a in arrays.values())
    content = parse_content(data, len(data))
    assert content.metrics == {"m": metrics}
    for entry, (key, array) in zip(content.tensors, arrays.items(), strict=True):
        assert (entry.key, entry.shape) == (key, array.shape)
        got = view(data[entry.offset : entry.offset + entry.nbytes], entry.dtype, entry.shape)
        assert got.tobytes() == array.tobytes()


@given(st.dictionaries(NAMES, ARRAYS, max_size=5))
def test_we_read_whatever_the_library_writes(arrays):
    data = safetensors.numpy.save(arrays)
    table = parse_table(data, len(data), ContentLimits())
    assert {t.name: (t.dtype, t.shape) for t in table.tensors} == {
        name: (name_of(a.dtype), a.shape) for name, a in arrays.items()
    }


@given(st.binary(max_size=300))
def test_noise_is_only_ever_a_bad_update(noise):
    try:
        parse_content(noise, len(noise))
    except BadUpdate:
        return
    raise AssertionError("noise was read as an object")


@given(st.data())
def test_a_changed_byte_of_a_header_is_read_as_the_library_reads_it_or_refused(data):
    array = np.arange(4, dtype=np.float32)
    good = build_header([("r", "array")], [("r", "a", "F32", (4,), 16)], {}, {}) + array.tobytes()
    at = data.draw(st.integers(0, len(good) - 17))
    bad = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]
    try:
        content = parse_content(bad, len(bad))
    except PlatformError:
        return
    theirs = safetensors.numpy.load(bad)
    assert [t.name for t in content.tensors] == list(theirs)
