"""What a node says is cut to size or refused."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput, PlatformError
from common.wire import hansa_node_pb2 as pb
from coordinator.domain.nodes import Device
from coordinator.rpc import convert
from coordinator.rpc.upload import header_of


def test_a_report_becomes_a_record() -> None:
    report = pb.NodeReport(
        datasets=[pb.DatasetOffer(federation="f", name="d", format="csv", rows=3, digest="x")],
        approvals=[pb.Approval(federation="f", app_digest="*")],
        slots=2,
        cpus=4,
        memory_mib=1024,
        sandbox="bwrap",
        serving="http://127.0.0.1:1",
    )
    record = convert.report_of(report, release="1.0", skew_s=2.5)
    assert record.datasets[0].name == "d"
    assert record.approvals == (("f", "*"),)
    assert (record.slots, record.cpus, record.memory_mib) == (2, 4, 1024)
    assert (record.environments, record.release, record.skew_s) == (("default",), "1.0", 2.5)


def test_devices_are_read_by_uuid_with_what_the_driver_cannot_say_as_none() -> None:
    report = pb.NodeReport(
        devices=[
            pb.Device(uuid="MIG-1", kind="cuda", name="A100 MIG", memory_mib=9856, parent="GPU-2", profile="1g.10gb"),
            pb.Device(uuid="GPU-1", kind="cuda", name="A100", memory_mib=80_000, used_mib=0, busy_percent=900),
        ],
        labels=["ward-3", "a100", "a100"],
        enforcement=["visible", "files"],
    )
    record = convert.report_of(report, release="", skew_s=0.0)
    assert record.devices == (
        Device("GPU-1", "cuda", "A100", 80_000, used_mib=0, busy_percent=100),
        Device("MIG-1", "cuda", "A100 MIG", 9856, "GPU-2", "1g.10gb"),
    )
    assert (record.labels, record.enforcement) == (("a100", "ward-3"), ("visible", "files"))


def test_a_node_that_says_nothing_of_devices_has_none() -> None:
    record = convert.report_of(pb.NodeReport(), release="", skew_s=0.0)
    assert (record.devices, record.labels, record.enforcement) == ((), (), ())


@pytest.mark.parametrize(
    "devices",
    [
        [pb.Device(uuid="", kind="cuda")],
        [pb.Device(uuid="GPU-1", kind="cuda")] * 2,
        [pb.Device(uuid="GPU-1", kind="")],
        [pb.Device(uuid="GPU-1", kind="CUDA!")],
        [pb.Device(uuid="GPU-\x00", kind="cuda")],
        [pb.Device(uuid="G" * 129, kind="cuda")],
        [pb.Device(uuid=f"GPU-{n}", kind="cuda") for n in range(257)],
    ],
)
def test_a_device_that_a_lease_could_not_name_is_refused(devices: list[pb.Device]) -> None:
    with pytest.raises(BadInput):
        convert.report_of(pb.NodeReport(devices=devices), release="", skew_s=0.0)


def test_more_than_a_node_can_have_is_refused() -> None:
    for report in (
        pb.NodeReport(datasets=[pb.DatasetOffer()] * 1001),
        pb.NodeReport(approvals=[pb.Approval()] * 10_001),
        pb.NodeReport(environments=["e"] * 101),
        pb.NodeReport(datasets=[pb.DatasetOffer(columns=[pb.Column()] * 5001)]),
    ):
        with pytest.raises(BadInput):
            convert.report_of(report, release="", skew_s=0.0)


def test_long_and_unprintable_text_is_made_harmless() -> None:
    assert convert.text("a\x00b\nc\x1b[31m") == "a b c [31m"
    assert len(convert.text("x" * 10_000)) == convert.MAX_TEXT


def test_held_updates_need_digests_and_task_ids() -> None:
    good = pb.HeldUpdate(task="job_1/0/0", digest="a" * 64, size=3, content="b" * 64)
    assert convert.held_of(pb.Hello(held=[good])) == {"job_1/0/0": ("a" * 64, 3, "b" * 64)}
    for bad in (
        pb.HeldUpdate(task="../x", digest="a" * 64, content="b" * 64),
        pb.HeldUpdate(task="job_1/0/0", digest="A" * 64, content="b" * 64),
        pb.HeldUpdate(task="job_1/0/0", digest="a" * 64, content=""),
    ):
        with pytest.raises(BadInput):
            convert.held_of(pb.Hello(held=[bad]))


@given(st.binary(max_size=300))
def test_any_bytes_that_parse_as_an_event_convert_or_are_refused(data: bytes) -> None:
    try:
        event = pb.NodeEvent.FromString(data)
    except DecodeError:  # gRPC answers for it
        return
    try:
        convert.report_of(event.report, release="", skew_s=0.0)
        convert.held_of(event.hello)
        convert.denials_of(event.prepared)
    except PlatformError:
        pass


@given(st.dictionaries(st.sampled_from(["hansa-task", "hansa-digest", "hansa-size", "hansa-offset"]), st.text()))
def test_any_upload_header_is_read_or_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        header_of([*metadata.items(), ("hansa-extra-bin", b"x")] if len(metadata) < 4 else [("hansa-size", "-1")])
