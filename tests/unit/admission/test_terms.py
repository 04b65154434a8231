"""What may be written in a grant, and what a site can promise."""

from dataclasses import replace

import pytest

from common.errors import BadInput
from coordinator.admission.terms import capacity, check_terms, shortfalls
from coordinator.domain.nodes import Device, Node, NodeReport, NodeStatus
from coordinator.domain.quotas import Amount, Terms

A100 = Device("GPU-1", "cuda", "A100", 40_960)
SLICES = tuple(Device(f"MIG-{n}", "cuda", "A100 MIG", 10_240, parent="GPU-1") for n in range(3))
TPU = Device("TPU-1", "tpu", "v5e", 16_384)
NODE = Node("node_1", "north", "ward", NodeStatus.ACTIVE, 1, "k", 0.0, 0.0, report=NodeReport(cpus=4, memory_mib=8192))


def node(*devices, status=NodeStatus.ACTIVE):
    return replace(NODE, status=status, report=replace(NODE.report, devices=devices))


def test_a_site_has_what_its_active_nodes_report_and_a_cut_gpu_is_its_instances():
    nodes = [node(A100, TPU), node(A100, *SLICES), node(A100, status=NodeStatus.REVOKED), replace(NODE, report=None)]
    assert capacity(nodes) == Amount({"cuda": 4000, "tpu": 1000}, {"cuda": 71_680, "tpu": 16_384}, 8000, 16_384)
    assert capacity([]) == Amount({}, {}, 0, 0)


def test_only_what_is_promised_beyond_it_is_said():
    have = Amount({"cuda": 2000}, {"cuda": 80_000}, 8000, 65_536)
    exact = [Amount({"cuda": 1500}), Amount({"cuda": 500}, {"cuda": 80_000}, 8000, 65_536), Amount()]
    assert shortfalls(have, exact) == []
    more = [*exact, Amount({"cuda": 1, "rocm": 1000}, cpu_milli=500, ram_mib=1)]
    assert shortfalls(have, more) == [
        "the guarantees at this site add up to 8.5 CPUs; its nodes have 8 CPUs",
        "the guarantees at this site add up to 2.001 cuda; its nodes have 2 cuda",
        "the guarantees at this site add up to 1 rocm; its nodes have 0 rocm",
        "the guarantees at this site add up to 65537 MiB of RAM; its nodes have 65536 MiB of RAM",
    ]


def test_a_guarantee_may_reach_its_limit_and_name_what_the_limit_does_not():
    check_terms(Terms(Amount({"cuda": 2000}, cpu_milli=4000), Amount({"cuda": 2000}, ram_mib=1)))


@pytest.mark.parametrize(
    "terms",
    [
        Terms(Amount(), Amount(), 0),
        Terms(Amount({"cuda": 1}), Amount({"cuda": 0})),
        Terms(Amount(cpu_milli=2), Amount(cpu_milli=1)),
    ],
)
def test_contradictions_are_refused(terms):
    with pytest.raises(BadInput):
        check_terms(terms)
