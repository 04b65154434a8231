"""NVIDIA's management library without a GPU: a Python object under the real bindings, and a C library for processes.

The bindings ask ``pynvml.nvmlLib`` for functions by name and fill ctypes arguments; ``byref`` arguments have ``_obj``.
So structures, versions and the mapping of errors are the real ones, and every fault can be injected.
"""

# ruff: noqa: N802 - the functions have the names of the library's own
from __future__ import annotations

import ctypes
import functools
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pynvml

MIB = 1 << 20
NOT_SUPPORTED, NOT_FOUND = pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NOT_FOUND
LOST, DRIVER_NOT_LOADED = pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_DRIVER_NOT_LOADED


@dataclass
class Gpu:
    """One GPU or MIG instance; amounts in MiB.  ``faults``: function or "*" -> the error it answers."""

    uuid: str
    name: str = "NVIDIA Test GPU"
    total: int = 80_000
    reserved: int = 500
    used: int = 0
    busy: int = 0
    minor: int = 0
    processes: dict[int, int | None] = field(default_factory=dict)
    instances: list[Gpu | None] | None = None  # a GPU in MIG mode; None = a gap
    ids: tuple[int, int] = (0, 0)  # of a MIG instance
    faults: dict[str, int] = field(default_factory=dict)


class FakeNvml:
    """Stands for the driver's library."""

    def __init__(self, *gpus: Gpu, missing: tuple[str, ...] = (), init: int = 0) -> None:
        self.gpus, self.missing, self.init = gpus, missing, init

    def install(self, monkeypatch: Any) -> FakeNvml:
        monkeypatch.setattr(pynvml, "nvmlLib", self)
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        return self

    def __getattr__(self, name: str) -> Any:
        if name in self.missing or not name.startswith("nvml") or not hasattr(type(self), "_" + name):
            raise AttributeError(name)
        return functools.partial(self._call, name)

    def _call(self, name: str, *args: Any) -> int:
        gpu = self._gpu(args[0]) if args and isinstance(args[0], pynvml.c_nvmlDevice_t) else None
        if gpu is not None and (fault := gpu.faults.get(name, gpu.faults.get("*", 0))):
            return fault
        return int(getattr(self, "_" + name)(*((gpu, *args[1:]) if gpu is not None else args)) or 0)

    # A handle is the number of the GPU, and behind it of its instance: 1, 2, … and 101, 102, … for the first GPU's.
    def _gpu(self, handle: Any) -> Gpu:
        number = ctypes.cast(handle, ctypes.c_void_p).value or 0
        gpu = self.gpus[number % 100 - 1]
        return gpu if number < 100 else (gpu.instances or [])[number // 100 - 1]  # type: ignore[return-value]

    @staticmethod
    def _point(out: Any, number: int) -> None:
        ctypes.cast(ctypes.byref(out._obj), ctypes.POINTER(ctypes.c_void_p))[0] = number

    def _nvmlInitWithFlags(self, flags: int) -> int:
        return self.init

    def _nvmlShutdown(self) -> None: ...

    def _nvmlDeviceGetCount_v2(self, count: Any) -> None:
        count._obj.value = len(self.gpus)

    def _nvmlDeviceGetHandleByIndex_v2(self, index: Any, out: Any) -> int:
        self._point(out, index.value + 1)
        return self.gpus[index.value].faults.get("*", 0)

    def _nvmlDeviceGetUUID(self, gpu: Gpu, out: Any, size: Any) -> None:
        out.value = gpu.uuid.encode()

    def _nvmlDeviceGetName(self, gpu: Gpu, out: Any, size: Any) -> None:
        out.value = gpu.name.encode()

    def _nvmlDeviceGetMinorNumber(self, gpu: Gpu, out: Any) -> None:
        out._obj.value = gpu.minor

    def _nvmlDeviceGetPciInfo_v3(self, gpu: Gpu, out: Any) -> None:
        out._obj.busId = f"00000000:{gpu.minor + 1:02X}:00.0".encode()

    def _nvmlDeviceGetMemoryInfo(self, gpu: Gpu, out: Any) -> None:
        out._obj.total, out._obj.used = gpu.total * MIB, (gpu.used + gpu.reserved) * MIB

    def _nvmlDeviceGetMemoryInfo_v2(self, gpu: Gpu, out: Any) -> int:
        if out._obj.version != pynvml.nvmlMemory_v2:
            return int(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
        out._obj.total, out._obj.reserved, out._obj.used = gpu.total * MIB, gpu.reserved * MIB, gpu.used * MIB
        return 0

    def _nvmlDeviceGetUtilizationRates(self, gpu: Gpu, out: Any) -> None:
        out._obj.gpu = gpu.busy

    def _nvmlDeviceGetMigMode(self, gpu: Gpu, now: Any, pending: Any) -> None:
        now._obj.value = pending._obj.value = int(gpu.instances is not None)

    def _nvmlDeviceGetMaxMigDeviceCount(self, gpu: Gpu, out: Any) -> None:
        out._obj.value = len(gpu.instances or ())

    def _nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: Gpu, index: Any, out: Any) -> int:
        if (gpu.instances or [])[index.value] is None:
            return int(NOT_FOUND)
        self._point(out, (index.value + 1) * 100 + self.gpus.index(gpu) + 1)
        return 0

    def _nvmlDeviceGetGpuInstanceId(self, gpu: Gpu, out: Any) -> None:
        out._obj.value = gpu.ids[0]

    def _nvmlDeviceGetComputeInstanceId(self, gpu: Gpu, out: Any) -> None:
        out._obj.value = gpu.ids[1]

    def _nvmlDeviceGetComputeRunningProcesses_v2(self, gpu: Gpu, count: Any, out: Any) -> int:
        return self._nvmlDeviceGetComputeRunningProcesses_v3(gpu, count, out)

    def _nvmlDeviceGetComputeRunningProcesses_v3(self, gpu: Gpu, count: Any, out: Any) -> int:
        if out is None and gpu.processes:
            count._obj.value = len(gpu.processes)
            return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
        for index, (pid, mib) in enumerate(gpu.processes.items()):
            unknown = pynvml.NVML_VALUE_NOT_AVAILABLE_ulonglong.value
            out[index].pid, out[index].usedGpuMemory = pid, unknown if mib is None else mib * MIB
        count._obj.value = len(gpu.processes)
        return 0


_SOURCE = """
#include <stdio.h>
#include <string.h>
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = GPUS; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(long)(index + 1); return 0; }
int nvmlDeviceGetUUID(void *device, char *out, unsigned size) { snprintf(out, size, "GPU-test-%ld", (long)device - 1); return 0; }
int nvmlDeviceGetName(void *device, char *out, unsigned size) { snprintf(out, size, "NVIDIA Test GPU"); return 0; }
int nvmlDeviceGetMinorNumber(void *device, unsigned *minor) { *minor = (long)device + 199; return 0; }
int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2 *m) {
    m->total = 8192ULL << 20; m->reserved = 192ULL << 20; m->used = 0; m->free = 8000ULL << 20; return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, void *out) { *count = 0; return 0; }
"""


def build_library(folder: Path, gpus: int = 1) -> Path:
    """Compile a ``libnvidia-ml.so.1`` with so many idle GPUs of 8,000 MiB; put ``folder`` on LD_LIBRARY_PATH."""
    folder.mkdir(exist_ok=True)
    (folder / "nvml.c").write_text(_SOURCE)
    library = folder / "libnvidia-ml.so.1"
    command = ["gcc", "-shared", "-fPIC", f"-DGPUS={gpus}", "-o", str(library), str(folder / "nvml.c")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return library
