"""One value, one text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.crypto.canonical import MAX_DEPTH, canonical, parse_canonical
from common.errors import BadInput

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)


def test_keys_are_sorted_and_nothing_is_added() -> None:
    value = {"b": [1, 1.0, "é", None, True], "a": {"z": -0.5, "Z": 10**30}}
    expected = '{"a":{"Z":1000000000000000000000000000000,"z":-0.5},"b":[1,1.0,"é",null,true]}'
    assert canonical(value) == expected.encode()


@given(_VALUES)
def test_what_is_written_reads_back(value: object) -> None:
    assert parse_canonical(canonical(value)) == value


@given(st.dictionaries(_TEXT, st.integers(), min_size=2, max_size=5))
def test_the_order_of_keys_does_not_show(value: dict[str, int]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b"[1]\n",
        b'"\\u00e9"',
        b"1e1",
        b"NaN",
        b"",
        b"\xff",
        b"[" * 9999,
    ],
)
def test_any_other_text_of_a_value_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        parse_canonical(data)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1: 2}, b"bytes", {"a": object()}, "\ud800", {"\udfff": 1}, {1, 2}]
)
def test_what_json_has_no_word_for_is_refused(value: object) -> None:
    with pytest.raises(BadInput):
        canonical(value)


def test_deep_nesting_is_refused_before_the_stack_ends() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(BadInput, match="nested"):
        canonical(value)
    with pytest.raises(BadInput):
        parse_canonical(b"[" * 5000 + b"]" * 5000)
