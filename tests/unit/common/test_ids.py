import pytest

from common.clock import ManualClock, iso
from common.errors import BadInput
from common.ids import JobId, digest, new_id, slug, task_id


@pytest.mark.parametrize("name", ["a", "st-marys", "x" * 40, "0"])
def test_a_slug_passes(name):
    assert slug(name, what="tenant") == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "x" * 41, "../x", "a\n", "é", "a/b"])
def test_what_could_hurt_a_path_or_url_is_no_slug(name):
    with pytest.raises(BadInput, match="tenant"):
        slug(name, what="tenant")


def test_ids_do_not_repeat():
    assert len({new_id("job") for _ in range(1000)}) == 1000


def test_a_digest_is_64_lower_case_hex():
    assert digest("a" * 64) == "a" * 64
    for bad in ("A" * 64, "a" * 63, "g" * 64):
        with pytest.raises(BadInput):
            digest(bad)


def test_a_task_id_names_its_place():
    assert task_id(JobId("job_1"), 3, 0) == "job_1/3/0"


def test_iso_time_is_utc_to_the_millisecond():
    assert iso(0.1234) == "1970-01-01T00:00:00.123Z"


def test_a_manual_clock_moves_only_when_told():
    clock = ManualClock(5.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (7.5, 7.5)
