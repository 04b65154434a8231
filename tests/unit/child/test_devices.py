"""Torch is kept within its slices before the app's code runs, or says that it is not."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest

from common.child.devices import MIB, keep_within


class Cuda:
    """``torch.cuda`` of a machine with devices of so many MiB."""

    def __init__(self, *totals: int, broken: str = "") -> None:
        self.totals, self.broken = totals, broken
        self.fractions: dict[int, float] = {}

    def device_count(self) -> int:
        return len(self.totals)

    def get_device_properties(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(total_memory=self.totals[index] * MIB)

    def set_per_process_memory_fraction(self, fraction: float, index: int) -> None:
        if self.broken:
            raise RuntimeError(self.broken)
        self.fractions[index] = fraction


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("torch")
    module.__spec__ = ModuleSpec("torch", None)
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


def test_each_device_gets_its_own_bound_and_a_whole_one_none(torch: ModuleType) -> None:
    torch.cuda = Cuda(80_000, 10_000)
    assert keep_within([20_000, 0])
    assert torch.cuda.fractions == {0: 0.25}
    assert keep_within([20_000, 12_000])
    assert torch.cuda.fractions == {0: 0.25, 1: 1.0}


@pytest.mark.parametrize("cuda", [Cuda(), Cuda(1, 1), Cuda(80_000, broken="no kernel image is available")])
def test_what_is_not_bounded_is_not_said_to_be(torch: ModuleType, cuda: Cuda) -> None:
    torch.cuda = cuda
    assert not keep_within([20_000])
    assert not cuda.fractions


def test_without_bounds_or_torch_nothing_is_touched(monkeypatch: pytest.MonkeyPatch, torch: ModuleType) -> None:
    assert not keep_within([])
    assert not keep_within([0, 0])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not keep_within([20_000])
