"""What a lease may hold, whether it keeps to its slice, and what is said to hold it there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_node.guard.grants import Grant, grant
from client_node.guard.leases import (
    Device,
    Lease,
    Slice,
    Use,
    bounds,
    filled,
    judge_slices,
    lease_use,
    measures,
    on_offer,
    over,
)
from client_node.guard.service import LeaseEntry, Service, service

GPU = Device("GPU-a", "cuda", "GPU", 80_000, handle="GPU-a", files=("/dev/nvidia0", "/dev/nvidiactl"),
             views=("/sys/devices/system",), measured=True, attributed=True)  # fmt: skip
OTHER = replace(GPU, uuid="GPU-b", handle="GPU-b", files=("/dev/nvidia1", "/dev/nvidiactl"))
MIG = replace(GPU, uuid="MIG-1", handle="MIG-1", memory_mib=10_000, parent="GPU-c", profile="1g.10gb")
AMD = Device("mi300x", "rocm", "MI300X", 0, handle="GPU-77", files=("/dev/kfd",), libraries="/opt/rocm/lib")
DEVICES = {device.uuid: device for device in (GPU, OTHER, MIG, AMD)}


def lease(*slices: Slice) -> Lease:
    return Lease("l", "job_1/0/0", "job_1", "acme", tuple(filled(part, DEVICES) for part in slices))


def codes(*slices: Slice, held: tuple[Slice, ...] = ()) -> list[str]:
    filled_held = [filled(part, DEVICES) for part in held]
    return [denial.code for denial in judge_slices(lease(*slices).slices, DEVICES, filled_held, 600)]


@pytest.mark.parametrize(
    ("slices", "held", "code"),
    [
        ([Slice("GPU-x", 1000, 0)], [], "no_device"),
        ([Slice("GPU-a", 0, 0)], [], "bad_lease"),
        ([Slice("GPU-a", 1001, 0)], [], "bad_lease"),
        ([Slice("GPU-a", 500, 0)] * 2, [], "bad_lease"),
        ([Slice("GPU-a", 1000, 0), Slice("GPU-b", 500, 0)], [], "bad_lease"),
        ([Slice("GPU-a", 1000, 0), Slice("mi300x", 1000, 0)], [], "bad_lease"),
        ([Slice("MIG-1", 1000, 0), Slice("GPU-a", 1000, 0)], [], "bad_lease"),
        ([Slice("GPU-a", 501, 0)], [Slice("GPU-a", 500, 0)], "device_full"),
        ([Slice("GPU-a", 100, 50_000)], [Slice("GPU-a", 100, 40_000)], "device_full"),
        ([Slice("GPU-a", 1000, 80_001)], [], "device_full"),
        ([Slice("GPU-a", 5, 600)], [], "slice_too_small"),
    ],
)
def test_what_a_device_cannot_hold_is_refused(slices: list[Slice], held: list[Slice], code: str) -> None:
    assert code in codes(*slices, held=tuple(held))


@pytest.mark.parametrize(
    ("slices", "held"),
    [
        ([], []),
        ([Slice("GPU-a", 1000, 0)], [Slice("GPU-b", 1000, 0)]),
        ([Slice("GPU-a", 500, 0)], [Slice("GPU-a", 500, 0)]),
        ([Slice("GPU-a", 1000, 0), Slice("GPU-b", 1000, 0)], []),
        ([Slice("mi300x", 500, 0)], [Slice("mi300x", 500, 0)]),
        ([Slice("MIG-1", 1000, 10_000)], []),
    ],
)
def test_what_fits_is_given(slices: list[Slice], held: list[Slice]) -> None:
    assert codes(*slices, held=tuple(held)) == []


@given(st.lists(st.tuples(st.sampled_from(sorted(DEVICES)), st.integers(1, 1000), st.integers(0, 90_000))))
def test_no_order_of_leases_gives_more_of_a_device_than_there_is(asked: list[tuple[str, int, int]]) -> None:
    held: list[Slice] = []
    for part in (filled(Slice(*values), DEVICES) for values in asked):
        if not judge_slices((part,), DEVICES, held, 600):
            held.append(part)
    for uuid, device in DEVICES.items():
        here = [part for part in held if part.device == uuid]
        assert sum(part.milli for part in here) <= 1000
        assert not device.memory_mib or sum(part.mib for part in here) <= device.memory_mib


@pytest.mark.parametrize(
    ("use", "how", "mib"),
    [
        (Use(900, 0, {1: 300, 2: 200, 9: 400}), {}, 500),  # the lease's own processes, nobody else's
        (Use(900, 0, {9: 400}), {}, 0),
        (Use(900, 0, {1: None, 2: 200}), {}, 800),  # one is not told: all that came since, as it is alone
        (Use(900, 0, {1: None, 2: 200}), {"alone": False}, None),
        (Use(900, 0, None), {}, 800),
        (Use(900, 0, {1: 300}), {"sees_pids": False}, 800),  # in a container the ids are strangers'
        (Use(900, 0, {1: 300}), {"sees_pids": False, "alone": False}, None),
        (Use(900, 0, {1: 300}), {"sees_pids": False, "before_mib": None}, None),
        (Use(None, 0, None), {}, None),
        (Use(50, 0, None), {}, 0),  # what was there before has shrunk
    ],
)
def test_a_lease_is_charged_with_what_its_processes_use(use: Use, how: dict[str, object], mib: int | None) -> None:
    known: dict[str, object] = {"sees_pids": True, "alone": True, "before_mib": 100} | how
    assert lease_use(use, frozenset({1, 2}), **known) == mib  # type: ignore[arg-type]


def test_a_slice_is_passed_above_it_and_not_at_it_nor_where_nobody_knows() -> None:
    half = lease(Slice("GPU-a", 500, 0)).slices
    assert over(half, {"GPU-a": 40_000}) is None
    assert over(half, {"GPU-a": None}) is None
    assert over(half, {"GPU-a": 40_001}) == (Slice("GPU-a", 500, 40_000), 40_001)
    assert over(lease(Slice("mi300x", 500, 0)).slices, {"mi300x": 10**6}) is None


@pytest.mark.parametrize(
    ("part", "how", "words"),
    [
        (None, {}, "visible files"),
        (None, {"boxed": False}, "visible"),
        (Slice("GPU-a", 1000, 0), {}, "visible files watchdog exclusive"),
        (Slice("GPU-a", 500, 0), {"fraction": True}, "visible fraction files watchdog"),
        (Slice("GPU-a", 500, 0), {"sees_pids": False}, "visible files"),
        (Slice("GPU-a", 1000, 0), {"sees_pids": False}, "visible files watchdog exclusive"),
        (Slice("MIG-1", 1000, 0), {}, "visible files watchdog exclusive mig"),
        (Slice("mi300x", 500, 0), {}, "visible files"),
        (Slice("mi300x", 500, 0), {"boxed": False}, "visible"),
    ],
)
def test_only_what_is_in_force_is_named(part: Slice | None, how: dict[str, bool], words: str) -> None:
    held = lease(part) if part else lease()
    found = measures(held, DEVICES, **({"boxed": True, "sees_pids": True, "fraction": False} | how))
    assert " ".join(found) == words


def test_what_is_on_offer_is_what_some_lease_can_have() -> None:
    assert on_offer([], boxed=True) == ("visible", "files")
    assert on_offer(DEVICES.values(), boxed=True) == (
        "visible", "fraction", "files", "watchdog", "exclusive", "mig",
    )  # fmt: skip


def test_a_grant_names_devices_by_uuid_and_gives_their_files_only() -> None:
    given = grant(lease(Slice("GPU-b", 1000, 0), Slice("GPU-a", 1000, 0)), DEVICES, 600)
    assert dict(given.environment) == {"CUDA_VISIBLE_DEVICES": "GPU-b,GPU-a", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert given.files == ("/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia0")
    assert given.bounds == (0, 0)
    half = grant(lease(Slice("GPU-a", 500, 0)), DEVICES, 600)
    assert half.files == ("/dev/nvidia0", "/dev/nvidiactl")
    assert half.bounds == (39_400,)
    amd = grant(lease(Slice("mi300x", 500, 0)), DEVICES, 600)
    assert dict(amd.environment)["ROCR_VISIBLE_DEVICES"] == "GPU-77"
    assert (dict(amd.environment)["LD_LIBRARY_PATH"], amd.views) == ("/opt/rocm/lib", ("/opt/rocm/lib",))
    assert amd.bounds == ()
    assert grant(lease(), DEVICES, 600) == Grant()


def test_torch_s_share_leaves_room_for_the_context_and_a_whole_device_needs_no_bound() -> None:
    assert bounds(lease(Slice("GPU-a", 250, 0)), DEVICES, 600) == (19_400,)
    assert bounds(lease(Slice("GPU-a", 1000, 30_000)), DEVICES, 600) == (29_400,)
    assert bounds(lease(Slice("GPU-a", 1000, 80_000)), DEVICES, 600) == (0,)


def test_service_is_summed_by_tenant_and_clipped_to_what_is_asked() -> None:
    def entry(tenant: str, start: float, held_s: float, *slices: Slice, cpu_milli: int = 2000) -> LeaseEntry:
        what = replace(lease(*slices), tenant=tenant, cpu_milli=cpu_milli)
        return LeaseEntry(what, start, start + held_s, held_s, "done", (), 0)

    entries = [
        entry("a", 0, 10, Slice("GPU-a", 500, 0)),
        entry("a", 100, 4, Slice("GPU-a", 1000, 0), Slice("GPU-b", 1000, 0)),
        entry("b", 5, 20),
    ]
    assert service(entries) == (Service("a", 2, 14.0, 13.0, 28.0), Service("b", 1, 20.0, 0.0, 40.0))
    after = service(entries[:1] + entries[2:], since=8.0)
    assert after == (Service("a", 1, 2.0, 1.0, 4.0), Service("b", 1, 17.0, 0.0, 34.0))
