"""Keeps torch's allocator within a slice of each granted device, from the moment that torch is there.

The caching allocator only: what CUDA's context, cuDNN or another library takes is beside it, and an app may lift the
bound again.  It turns most overuse into an ``OutOfMemoryError`` in the app; the node measures from outside as well.
Torch is not imported for it, which would cost an app that does without it seconds and memory.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MIB = 1 << 20


class TorchBound(MetaPathFinder):
    """Bounds torch on each visible CUDA device as the last step of its import, before anybody can use it.

    Args:
        mib: Bounds by device, in the order in which this process sees them; 0 = none.
    """

    def __init__(self, mib: Sequence[int]) -> None:
        self._mib = tuple(mib)
        self.in_force = False

    def install(self) -> None:
        """Wait for torch to be imported."""
        if any(self._mib):
            sys.meta_path.insert(0, self)

    def said(self) -> dict[str, bool]:
        """Return what the parent is told with every frame."""
        return {"bounded": True} if self.in_force else {}

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find torch as others would, and put the bound behind its import; nothing else is ours to find."""
        del path, target
        if fullname != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                self.in_force = self._set(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # of this one loader
        return spec

    def _set(self, torch: Any) -> bool:
        try:
            if torch.cuda.device_count() != len(self._mib):
                return False
            for index, mib in enumerate(self._mib):
                if mib:
                    total = torch.cuda.get_device_properties(index).total_memory
                    torch.cuda.set_per_process_memory_fraction(min(1.0, mib * MIB / total), index)
        except Exception:  # noqa: BLE001 - no driver, a torch without CUDA, a broken one: the app will say so, if it cares
            return False
        return True
