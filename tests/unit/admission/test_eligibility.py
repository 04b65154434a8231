"""Every reason against a node, at once."""

from dataclasses import replace

import pytest

from common.jobspec import JobSpec, Resources
from coordinator.admission.eligibility import federation_denials, node_denials, only_passing
from coordinator.domain.nodes import DatasetOffer, Device, Node, NodeReport, NodeStatus
from coordinator.domain.tenancy import Acceptance, Federation

APP = "a" * 64
FED = Federation("fed", "cleveland", "", False, 0.0, {"cleveland": Acceptance.ACCEPTED, "hungary": Acceptance.INVITED})
REPORT = NodeReport(
    datasets=(DatasetOffer("fed", "heart", "csv", 3, "d", ()),),
    approvals=(("fed", APP),),
    slots=1,
    cpus=4,
    memory_mib=8192,
)
NODE = Node("node_1", "cleveland", "cle", NodeStatus.ACTIVE, 1, "k", 0.0, 0.0, report=REPORT)
SPEC = JobSpec("app", "s:app", "c:app", {})


A100 = Device("GPU-1", "cuda", "A100", 40_960)
SLICE = Device("MIG-1", "cuda", "A100 MIG", 10_240, parent="GPU-1", profile="2g.10gb")
T4, UNKNOWN = Device("GPU-2", "cuda", "T4", 15_360), Device("GPU-3", "cuda", "?", 0)


def gpus(milli, kind="cuda", memory=0):
    return replace(SPEC, resources=Resources(gpu_milli=milli, gpu_kind=kind, gpu_memory_mib=memory))


def codes(node=NODE, spec=SPEC, federation=FED, app=APP, connected=True):
    return [d.code for d in node_denials(node, federation, app, spec, connected=connected, offline_since="14:05")]


def reporting(**changes):
    return replace(NODE, report=replace(REPORT, **changes))


def test_a_node_that_shares_and_approved_has_nothing_against_it():
    assert codes() == []


@pytest.mark.parametrize(
    ("code", "given"),
    [
        ("node_revoked", {"node": replace(NODE, status=NodeStatus.REVOKED)}),
        ("node_quarantined", {"node": replace(NODE, status=NodeStatus.QUARANTINED)}),
        ("node_offline", {"connected": False}),
        ("not_a_member", {"node": replace(NODE, tenant="hungary")}),
        ("no_report", {"node": replace(NODE, report=None)}),
        ("dataset_not_shared", {"node": reporting(datasets=())}),
        ("dataset_not_shared", {"node": reporting(datasets=(DatasetOffer("other", "heart", "csv", 3, "d", ()),))}),
        ("dataset_not_shared", {"spec": replace(SPEC, datasets=("lungs",))}),
        ("app_not_approved", {"app": "b" * 64}),
        ("app_not_approved", {"node": reporting(approvals=(("other", APP),))}),
        ("environment_missing", {"spec": replace(SPEC, environment="torch")}),
        ("no_slots", {"node": reporting(slots=0)}),
        ("too_few_cpus", {"spec": replace(SPEC, resources=Resources(cpus=5))}),
        ("too_little_memory", {"spec": replace(SPEC, resources=Resources(memory_mib=9000))}),
        ("no_gpu", {"spec": gpus(500)}),
        ("no_gpu", {"spec": gpus(500, "rocm"), "node": reporting(devices=(A100,))}),
        ("too_few_gpus", {"spec": gpus(2000), "node": reporting(devices=(A100,))}),
        ("too_few_gpus", {"spec": gpus(2000), "node": reporting(devices=(A100, SLICE))}),  # the A100 is that slice now
        ("gpu_too_small", {"spec": gpus(100, memory=50_000), "node": reporting(devices=(A100,))}),
        ("gpu_too_small", {"spec": gpus(2000, memory=30_000), "node": reporting(devices=(A100, T4))}),
    ],
)
def test_each_reason_is_named(code, given):
    assert codes(**given) == [code]


@pytest.mark.parametrize(
    ("asked", "devices"),
    [
        (gpus(250), (A100,)),
        (gpus(1000, memory=40_960), (A100, T4)),
        (gpus(2000, memory=15_360), (A100, T4)),
        (gpus(500, memory=10_240), (A100, SLICE)),
        (gpus(1000, memory=99_999), (UNKNOWN,)),  # the node will judge
    ],
)
def test_devices_that_hold_what_is_asked_are_no_reason_against(asked, devices):
    assert codes(node=reporting(devices=devices), spec=asked) == []


def test_any_app_of_the_federation_may_be_approved():
    assert codes(node=reporting(approvals=(("fed", "*"),)), app="b" * 64) == []


def test_all_reasons_come_at_once():
    node = replace(reporting(datasets=(), approvals=()), tenant="hungary")
    assert codes(node=node, connected=False) == [
        "node_offline",
        "not_a_member",
        "dataset_not_shared",
        "app_not_approved",
    ]


def test_only_an_absent_node_is_worth_waiting_for():
    away = node_denials(NODE, FED, APP, SPEC, connected=False, offline_since="14:05")
    assert only_passing(away)
    assert away[0].message == "cle offline since 14:05"
    assert not only_passing(node_denials(NODE, FED, "b" * 64, SPEC, connected=False))


def test_a_tenant_that_has_not_accepted_runs_nothing():
    assert [d.code for d in federation_denials(FED, "hungary")] == ["not_a_member"]
    assert federation_denials(FED, "cleveland") == ()
