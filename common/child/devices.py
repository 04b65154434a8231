"""Keeps torch's allocator within a slice of each granted device, before any code of the app runs.

The caching allocator only: what CUDA's context, cuDNN or another library takes is beside it, and an app may lift the
bound again.  It turns most overuse into an ``OutOfMemoryError`` in the app; the node measures from outside as well.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

MIB = 1 << 20


def keep_within(bounds: Sequence[int]) -> bool:
    """Bound torch on each visible CUDA device; say whether it is bounded on all that have a bound.

    Args:
        bounds: MiB by device, in the order in which this process sees them; 0 = no bound.
    """
    if not any(bounds) or importlib.util.find_spec("torch") is None:
        return False
    try:
        import torch

        if torch.cuda.device_count() != len(bounds):
            return False
        for index, mib in enumerate(bounds):
            if mib:
                total = torch.cuda.get_device_properties(index).total_memory
                torch.cuda.set_per_process_memory_fraction(min(1.0, mib * MIB / total), index)
    except Exception:  # noqa: BLE001 - no driver, a torch without CUDA, a broken one: the app will say so, if it cares
        return False
    return True
