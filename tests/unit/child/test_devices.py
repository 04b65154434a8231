"""Torch is kept within its slices as soon as it is imported, and not imported for that."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from common.child.devices import TorchBound

TORCH = """
MIB = 1 << 20

class cuda:
    totals, broken, fractions = {totals}, {broken}, dict()

    def device_count():
        return len(cuda.totals)

    def get_device_properties(index):
        class properties:
            total_memory = cuda.totals[index] * MIB
        return properties

    def set_per_process_memory_fraction(fraction, index):
        if cuda.broken:
            raise RuntimeError("no kernel image is available")
        cuda.fractions[index] = fraction
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget torch for the test, and what it puts in the way of imports."""
    before, real = list(sys.meta_path), sys.modules.pop("torch", None)
    yield
    sys.meta_path[:] = before
    sys.modules.pop("torch", None)
    if real is not None:
        sys.modules["torch"] = real


@pytest.fixture
def bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install a bound, import a torch of so many devices; return both."""

    def install(mib: list[int], totals: list[int], *, broken: bool = False) -> tuple[TorchBound, ModuleType]:
        (tmp_path / "torch.py").write_text(TORCH.format(totals=totals, broken=broken))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.syspath_prepend(tmp_path)
        bound = TorchBound(mib)
        bound.install()
        assert (bound.in_force, bound.said(), "torch" in sys.modules) == (False, {}, False)
        module = importlib.import_module("torch")
        assert importlib.import_module("torch") is module
        assert bound not in sys.meta_path
        return bound, module

    return install


def test_each_device_gets_its_own_bound_and_a_whole_one_none(bounded) -> None:
    bound, torch = bounded([20_000, 0], [80_000, 10_000])
    assert (bound.in_force, bound.said(), torch.cuda.fractions) == (True, {"bounded": True}, {0: 0.25})


def test_a_bound_is_never_more_than_the_device(bounded) -> None:
    bound, torch = bounded([20_000], [10_000])
    assert (bound.in_force, torch.cuda.fractions) == (True, {0: 1.0})


@pytest.mark.parametrize(("totals", "broken"), [([], False), ([1, 1], False), ([80_000], True)])
def test_what_is_not_bounded_is_not_said_to_be_and_torch_is_there_all_the_same(
    bounded, totals: list[int], broken: bool
) -> None:
    bound, torch = bounded([20_000], totals, broken=broken)
    assert bound.said() == {}
    assert torch.cuda.fractions == {}


def test_without_a_bound_nothing_is_put_in_the_way_of_imports() -> None:
    before = list(sys.meta_path)
    TorchBound([]).install()
    TorchBound([0, 0]).install()
    assert sys.meta_path == before


def test_an_environment_without_torch_says_so_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    bound = TorchBound([20_000])
    bound.install()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("torch")
    assert not bound.in_force
