"""Records as JSON: what is written comes back equal, and whatever else is read is refused with one type of error."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput, Corrupted
from common.jobspec import JobSpec
from coordinator.adapters.sql.codec import decoder, dumps, loads, to_plain
from coordinator.domain.exchanges import Exchange
from coordinator.domain.jobs import Job
from coordinator.domain.models import ModelVersion
from coordinator.domain.nodes import Node
from coordinator.domain.tenancy import Federation

RECORDS = [Exchange, Job, JobSpec, ModelVersion, Node, Federation]
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.__name__)
def test_every_record_comes_back_equal(record: type):
    @given(st.from_type(record))
    def check(value: object) -> None:
        text = dumps(to_plain(value))
        assert text.isascii()
        # NaN is unequal to itself, so texts are compared.
        assert dumps(to_plain(decoder(record)(loads(text)))) == text

    check()


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.__name__)
def test_what_is_no_record_raises_corrupted_only(record: type):
    fields = st.sampled_from([*record.__dataclass_fields__, "unknown"])

    @given(anything | st.dictionaries(fields, anything))
    def check(value: object) -> None:
        try:
            found = decoder(record)(value)
        except Corrupted:
            return
        assert isinstance(found, record)

    check()


@given(st.binary() | st.text())
def test_bytes_that_are_no_json_raise_corrupted_only(data: bytes | str):
    with contextlib.suppress(Corrupted):
        loads(data)


@pytest.mark.parametrize(
    "text", ['{"$float": "many"}', '{"$float": []}', '{"$float": {"a": 1}}', "[" * 100_000, "NaN x"]
)
def test_a_hostile_value_is_corrupted(text: str):
    with pytest.raises(Corrupted):
        loads(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_without_a_json_word_is_valid_json(value: float):
    text = dumps(to_plain({"loss": value}))
    assert json.loads(text, parse_constant=pytest.fail)
    assert str(loads(text)["loss"]) == str(value)


@pytest.mark.parametrize("value", [object(), b"bytes", {"a": [{1: object()}]}, lambda: 0])
def test_what_json_cannot_carry_is_refused(value: object):
    with pytest.raises(BadInput):
        dumps(to_plain(value))


@pytest.mark.parametrize("metrics", [{"$float": 1.5}, {"$float": float("inf")}, {"$$float": 1.0, "$": 2.0}])
def test_a_tenants_own_key_cannot_pass_for_our_mark(metrics: dict[str, float]):
    assert decoder(dict[str, float])(loads(dumps(to_plain(metrics)))) == metrics
