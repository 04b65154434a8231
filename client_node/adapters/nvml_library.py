"""NVIDIA's management library (NVML) through its bindings: questions that may have no answer.

The library belongs to the driver, not to us: a function may be missing in an older one, be unsupported on a product
(utilisation with MIG on, memory on boards that share the host's), answer "not available" for a value, or fail because a
GPU fell off the bus.  The last is told apart, as ``Lost``; every other is an answer of None.

Source:
    NVML API reference, docs.nvidia.com/deploy/nvml-api; the bindings are ``nvidia-ml-py``.
"""

from __future__ import annotations

from typing import Any

import structlog

from common.units import MIB

_log = structlog.get_logger()


class Lost(Exception):
    """The device does not answer any more: it fell off the bus, is being reset, or its driver is gone."""


class Library:
    """The bindings, initialised when there is something to drive."""

    def __init__(self) -> None:
        self.problem = ""
        self._nvml: Any = None  # the bindings have no types

    def open(self) -> bool:
        """Say whether NVML can be asked; tried anew each time until it can."""
        if self._nvml is not None:
            return True
        try:
            import pynvml
        except ImportError:  # of a node without its extra
            return False
        try:
            pynvml.nvmlInit()
        except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
            self.problem = ""  # a machine without NVIDIA's driver is no fault
        except pynvml.NVMLError as error:
            if self.problem != str(error):
                _log.warning("nvidia_driver_unusable", error=str(error))
            self.problem = str(error)
        else:
            self.problem, self._nvml = "", pynvml
        return self._nvml is not None

    def close(self) -> None:
        """Let go of the library."""
        if self._nvml is not None:
            self.ask("nvmlShutdown")
            self._nvml = None

    def ask(self, function: str, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the bindings
        """Return what a function of the bindings answers; None where it has no answer.

        Raises:
            Lost: the device is gone.
        """
        nvml = self._nvml
        try:
            return getattr(nvml, function)(*arguments, **named)
        except (nvml.NVMLError_GpuIsLost, nvml.NVMLError_ResetRequired, nvml.NVMLError_Uninitialized) as error:
            raise Lost(str(error)) from error
        # What an older library lacks is reported as a mismatch, which is no NVMLError; older bindings lack it as well.
        except (nvml.NVMLError, nvml.NVMLLibraryMismatchError, AttributeError):
            return None

    def text(self, function: str, handle: Any) -> str:  # noqa: ANN401 - a handle of the bindings
        """Return a name; "" where there is none."""
        value = self.ask(function, handle)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")

    def memory_mib(self, handle: Any) -> tuple[int, int] | None:  # noqa: ANN401
        """Return (what can be lent, what is in use).

        The first version of the call counts what the driver keeps for itself as used; the second tells it apart.
        """
        second = self.ask("nvmlDeviceGetMemoryInfo", handle, version=getattr(self._nvml, "nvmlMemory_v2", None))
        if second is not None and hasattr(second, "reserved"):
            return int(second.total - second.reserved) // MIB, int(second.used) // MIB
        first = self.ask("nvmlDeviceGetMemoryInfo", handle)
        return None if first is None else (int(first.total) // MIB, int(first.used) // MIB)

    def processes(self, handle: Any) -> dict[int, int | None] | None:  # noqa: ANN401
        """Return pid -> MiB of all that compute on a device, clients of MPS among them."""
        listed = self.ask("nvmlDeviceGetComputeRunningProcesses", handle)
        if listed is None:
            listed = self.ask("nvmlDeviceGetComputeRunningProcesses_v2", handle)
        if listed is None:
            return None
        shared = self.ask("nvmlDeviceGetMPSComputeRunningProcesses", handle) or []
        return {
            int(p.pid): None if p.usedGpuMemory is None else int(p.usedGpuMemory) // MIB for p in (*listed, *shared)
        }
