"""Traces: what columns may be called, and what a bad line is told."""

import io
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BadInput, PlatformError
from coordinator.scheduling.simulate.trace import read_trace


def read(text, **options):
    return read_trace(io.StringIO(text, newline=""), **{"round_ms": 60_000} | options)


def test_rows_need_no_order_and_times_begin_with_the_first():
    jobs = read("submit,tenant,size,duration,priority\n500,b,2,10.5,high\n100.25,a,1,0,\n").jobs
    assert [(j.id, j.line, j.tenant, j.submit_ms, j.gpus, j.length_ms, j.priority) for j in jobs] == [
        ("j0", 3, "a", 0, 1, 0, "normal"),
        ("j1", 2, "b", 399_750, 2, 10_500, "high"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "submit_s,duration_s,gpus,tenant\n7,30,4,x\n",
        "\ufeffTenant;GPUs;Submit Time;Run_Time\nx;4;1970-01-01T00:00:07Z;30\n",
        "job,vc,user,gpu_num,cpu_num,submit_time,duration,state\n1,x,u9,4,16,1970-01-01 00:00:07,30,Pass\n",
        "arrival_ms\truntime_min\tnum_gpus\tvirtual_cluster\n7000\t0.5\t4\tx\n",
        'submit,rounds,size,tenant,note\n7,2,4,x,"a, ""quoted""\ntwo lines"\n\n,,,,\n',
    ],
    ids=["philly", "semicolons and a byte order mark", "helios", "tabs and units", "rounds, quotes, empty lines"],
)
def test_the_words_of_public_traces_are_known(text):
    (job,) = read(text, round_ms=15_000).jobs
    assert (job.tenant, job.gpus, job.length_ms, job.submit_ms) == ("x", 4, 30_000, 0)


def test_the_first_of_several_names_for_one_thing_counts():
    assert read("user,tenant,submit,duration\nu,t,0,1\n").jobs[0].tenant == "t"


def test_a_cell_without_a_duration_falls_back_to_rounds():
    lengths = [j.length_ms for j in read("submit,duration,rounds\n0,5,9\n1,,3\n").jobs]
    assert lengths == [5000, 180_000]


def test_a_part_of_a_gpu_is_a_part_and_no_gpu_is_skipped():
    trace = read("submit,duration,gpu\n0,5,0.5\n0,5,0\n0,5,8\n")
    assert [(j.gpus, j.milli) for j in trace.jobs] == [(1, 500), (8, 1000)]
    assert trace.skipped == {"without a GPU": 1}


def test_numbers_of_priority_are_one_class_however_they_are_written():
    assert [j.priority for j in read("submit,duration,priority\n0,1,2\n0,1,2.0\n0,1,HIGH\n0,1,\n").jobs] == [
        "2", "2", "high", "normal",
    ]  # fmt: skip


def test_days_count_from_the_first_row_whatever_the_origin():
    text = "submit,duration\n" + "".join(f"{1_500_000_000 + day * 86_400},1\n" for day in (0, 1, 2, 3))
    trace = read(text, days=(1, 3))
    assert [j.submit_ms for j in trace.jobs] == [0, 86_400_000]
    assert trace.skipped == {"outside the days": 2}
    assert read(text, days=(9, 12)).jobs == ()


def test_durations_can_be_cut():
    assert read("submit,duration\n0,100\n0,7\n", longest_ms=50_000).jobs[0].length_ms == 50_000


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("x,1,1,a,,", "column 'submit': 'x' is neither a number of seconds nor an ISO 8601 time"),
        ("nan,1,1,a,,", "column 'submit'"),
        ("1e300,1,1,a,,", "column 'submit': '1e300' is beyond 3,000 years"),
        ("0,1_0,1,a,,", "column 'duration': '1_0' is not a number"),
        ("0,-1,1,a,,", "column 'duration': '-1' is negative"),
        ("0,inf,1,a,,", "column 'duration': 'inf' is not a number"),
        ("0,1e18,1,a,,", "column 'duration': '1e18' is longer than 3,000 years"),
        ("0,,1,a,,", "column 'duration': '' is empty, and so is every other length"),
        ("0,,1,a,1.5,", "column 'rounds': '1.5' is not a whole number of rounds"),
        ("0,,1,a,1e30,", "column 'rounds': '1e30' is longer than 3,000 years"),
        ("0,1,,a,,", "column 'gpus': '' is empty"),
        ("0,1,-2,a,,", "column 'gpus': '-2' is negative"),
        ("0,1,1.5,a,,", "column 'gpus': '1.5' is neither a whole number of GPUs nor a part of one"),
        ("0,1,1e12,a,,", "column 'gpus': '1e12' is more than a billion GPUs"),
        ("0,1,1,a,,inf", "column 'priority': 'inf' is no number to go by"),
        ("0,1,1,a", "4 cells, but the header has 6 columns"),
        ('0,1,1,"a,,', "not CSV"),
    ],
)
def test_a_bad_line_is_named_with_its_column_and_value(row, says):
    text = f"submit,duration,gpus,tenant,rounds,priority\n1,1,1,a,1,1\n{row}\n"
    with pytest.raises(BadInput) as refused:
        read(text)
    assert refused.value.detail.startswith(f"line 3: {says}")
    assert refused.value.code == "bad_trace"


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("", "the file is empty"),
        ("duration,gpus", "no column for submit among: duration, gpus"),
        ("submit,gpus", "no column for duration or rounds among"),
        ("submit,Submit,duration", "column 'Submit' is there twice"),
    ],
)
def test_a_header_that_says_too_little_is_told_what_is_missing(header, says):
    with pytest.raises(BadInput, match="line 1") as refused:
        read(header + "\n1,2,3\n" if header else "")
    assert says in refused.value.detail


@settings(max_examples=150)
@given(st.text(alphabet=string.printable + "é\u202e\0", max_size=200))
def test_whatever_is_read_is_a_trace_or_a_typed_error(text):
    for whole in (text, "submit,duration,size,tenant\n" + text):
        found = outcome(whole)
        if isinstance(found, PlatformError):
            assert found.detail.startswith("line ")
        else:
            assert all(j.submit_ms >= 0 and j.gpus >= 1 and j.length_ms >= 0 for j in found.jobs)


def outcome(text):
    try:
        return read(text)
    except PlatformError as refused:
        return refused
