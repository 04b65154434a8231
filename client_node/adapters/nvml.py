"""NVIDIA's devices: GPUs, or the instances of those in MIG mode, and what goes on at them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import structlog

from client_node.adapters.nvidia_files import Files
from client_node.adapters.nvml_library import Library, Lost
from client_node.guard.leases import Device, Use

_log = structlog.get_logger()
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO in Linux, include/linux/proc_ns.h
_MODPROBE_S = 10.0


class Nvml:
    """``Driver`` of NVIDIA's devices; on a machine without them, a driver without devices.

    Args:
        files: Where device files are found.
    """

    def __init__(self, files: Files | None = None) -> None:
        self._files = files or Files()
        self._library = Library()
        self._lock = threading.Lock()
        self._handles: dict[str, Any] = {}
        self._sees_pids = _pid_namespace() == _INITIAL_PID_NAMESPACE

    @property
    def problem(self) -> str:
        """What is wrong with a driver that is installed."""
        return self._library.problem

    @property
    def sees_pids(self) -> bool:
        """Whether the driver's process ids, which are the host's, are ours too."""
        return self._sees_pids

    def devices(self) -> tuple[Device, ...]:
        """Return the devices that answer now, by UUID."""
        with self._lock:
            found = {device.uuid: (device, handle) for device, handle in self._scan()}
            self._handles = {uuid: handle for uuid, (_, handle) in found.items()}
        return tuple(found[uuid][0] for uuid in sorted(found))

    def use(self, uuid: str) -> Use | None:
        """Return what goes on at a device; None = it is gone."""
        with self._lock:
            handle = self._handles.get(uuid)
            if handle is None:
                return None
            try:
                memory = self._library.memory_mib(handle)
                rates = self._library.ask("nvmlDeviceGetUtilizationRates", handle)
                processes = self._library.processes(handle)
            except Lost:
                return None
        return Use(memory[1] if memory else None, int(rates.gpu) if rates is not None else None, processes)

    def ready(self, uuids: tuple[str, ...]) -> None:
        """Have the driver make ``/dev/nvidia-uvm``, which only the first CUDA program after a boot would do."""
        modprobe = shutil.which("nvidia-modprobe")
        if modprobe and self._handles.keys() & set(uuids) and not self._files.complete:
            try:
                subprocess.run([modprobe, "-c", "0", "-u"], capture_output=True, timeout=_MODPROBE_S, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                _log.warning("nvidia_modprobe_failed", error=str(error))

    def close(self) -> None:
        """Let go of the library."""
        with self._lock, contextlib.suppress(Lost):
            self._handles = {}
            self._library.close()

    def _scan(self) -> Iterator[tuple[Device, Any]]:
        ask, count = self._library.ask, 0
        with contextlib.suppress(Lost):
            count = (ask("nvmlDeviceGetCount") or 0) if self._library.open() else 0
        for index in range(count):
            with contextlib.suppress(Lost):
                gpu = ask("nvmlDeviceGetHandleByIndex", index)
                uuid = self._library.text("nvmlDeviceGetUUID", gpu) if gpu is not None else ""
                mode = ask("nvmlDeviceGetMigMode", gpu) if uuid else None
                if uuid and mode and mode[0]:
                    yield from self._instances(gpu, uuid)
                elif uuid:
                    yield self._device(gpu, uuid, gpu), gpu

    def _instances(self, gpu: Any, parent: str) -> Iterator[tuple[Device, Any]]:  # noqa: ANN401 - of the bindings
        for index in range(self._library.ask("nvmlDeviceGetMaxMigDeviceCount", gpu) or 0):
            # The indices have gaps, where no instance was made.
            instance = self._library.ask("nvmlDeviceGetMigDeviceHandleByIndex", gpu, index)
            uuid = self._library.text("nvmlDeviceGetUUID", instance) if instance is not None else ""
            if uuid:
                yield self._device(instance, uuid, gpu, parent), instance

    def _device(self, handle: Any, uuid: str, gpu: Any, parent: str = "") -> Device:  # noqa: ANN401 - of the bindings
        library = self._library
        memory, place, memory_mib = library.memory_mib(handle), library.ask("nvmlDeviceGetPciInfo", gpu), 0
        if memory is not None:
            memory_mib = memory[0]
        elif parent and (attributes := library.ask("nvmlDeviceGetAttributes", handle)) is not None:
            memory_mib = int(attributes.memorySizeMB)
        name = library.text("nvmlDeviceGetName", handle) or library.text("nvmlDeviceGetName", gpu)
        return Device(
            uuid=uuid,
            kind="cuda",
            name=name or "NVIDIA device",
            memory_mib=memory_mib,
            parent=parent,
            profile=name.partition(" MIG ")[2] if parent else "",
            handle=uuid,
            files=self._files.of(library.ask("nvmlDeviceGetMinorNumber", gpu), self._ids(handle) if parent else None),
            views=self._files.views(_decoded(place.busId) if place is not None else ""),
            libraries=self._files.libraries(),
            measured=memory is not None,
            attributed=library.processes(handle) is not None,
        )

    def _ids(self, instance: Any) -> tuple[int, int] | None:  # noqa: ANN401 - of the bindings
        gpu_instance = self._library.ask("nvmlDeviceGetGpuInstanceId", instance)
        compute_instance = self._library.ask("nvmlDeviceGetComputeInstanceId", instance)
        return None if gpu_instance is None or compute_instance is None else (gpu_instance, compute_instance)


def _decoded(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - the link's text is wanted
    except OSError:
        return ""
