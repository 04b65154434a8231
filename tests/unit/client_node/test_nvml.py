"""NVIDIA's devices under the real bindings: read as they are, and every answer that may be missing is."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest
from structlog.testing import capture_logs

from client_node.adapters.nvidia_files import Files
from client_node.adapters.nvml import Nvml
from client_node.guard.leases import Use
from tests.gpus import DRIVER_NOT_LOADED, LOST, NOT_SUPPORTED, FakeNvml, Gpu


def gpus(monkeypatch: pytest.MonkeyPatch, *gpus: Gpu, root: Path = Path("/"), **how: object) -> Nvml:
    FakeNvml(*gpus, **how).install(monkeypatch)  # type: ignore[arg-type]
    return Nvml(Files(root))


def test_a_gpu_is_read_with_the_memory_that_can_be_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = gpus(monkeypatch, Gpu("GPU-b", minor=3, used=100, busy=7, processes={41: 90, 42: 10}), Gpu("GPU-a"))
    second, first = driver.devices()
    assert (first.uuid, first.kind, first.name, first.memory_mib) == ("GPU-b", "cuda", "NVIDIA Test GPU", 79_500)
    assert (first.handle, first.parent, first.measured, first.attributed) == ("GPU-b", "", True, True)
    assert first.files == ("/dev/nvidia3", "/dev/nvidiactl", "/dev/nvidia-uvm")
    assert "/sys/bus/pci/devices/0000:04:00.0" in first.views
    assert second.uuid == "GPU-a"
    assert driver.use("GPU-b") == Use(100, 7, {41: 90, 42: 10})


def test_an_older_library_without_the_newer_functions_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetMigMode")
    driver = gpus(monkeypatch, Gpu("GPU-a", used=100, processes={7: 64}), missing=newer)
    (device,) = driver.devices()
    assert device.memory_mib == 80_000  # the first version cannot tell what the driver keeps
    assert driver.use("GPU-a") == Use(600, 0, {7: 64})


def test_a_gpu_in_mig_mode_is_its_instances_and_not_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for place, minor in (("gi3", 30), ("gi3/ci0", 31)):
        access = tmp_path / "proc/driver/nvidia/capabilities/gpu2/mig" / place / "access"
        access.parent.mkdir(parents=True, exist_ok=True)
        access.write_text(f"DeviceFileMinor: {minor}\nDeviceFileMode: 292\n")
    one = Gpu("MIG-1", "NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9856, 0, ids=(3, 0),
              faults={"nvmlDeviceGetUtilizationRates": NOT_SUPPORTED})  # fmt: skip
    driver = gpus(monkeypatch, Gpu("GPU-a", minor=2, instances=[None, one, None]), root=tmp_path)
    (device,) = driver.devices()
    assert (device.uuid, device.parent, device.profile) == ("MIG-1", "GPU-a", "1g.10gb")
    assert device.memory_mib == 9856
    names = [Path(path).name for path in device.files]
    assert names == ["nvidia2", "nvidiactl", "nvidia-uvm", "nvidia-cap30", "nvidia-cap31"]
    assert driver.use("MIG-1") == Use(0, None, {})


def test_a_lost_gpu_is_left_out_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Gpu("GPU-a"), Gpu("GPU-b")
    driver = gpus(monkeypatch, first, second)
    assert len(driver.devices()) == 2
    first.faults["*"] = LOST
    assert driver.use("GPU-a") is None
    assert [device.uuid for device in driver.devices()] == ["GPU-b"]
    assert driver.use("GPU-a") is None
    assert driver.use("GPU-b") == Use(0, 0, {})


@pytest.mark.parametrize(
    ("function", "gone"),
    [
        ("nvmlDeviceGetMemoryInfo", {}),
        ("nvmlDeviceGetMemoryInfo_v2", {}),
        ("nvmlDeviceGetUtilizationRates", {"busy_percent": None}),
        ("nvmlDeviceGetComputeRunningProcesses_v3", {}),
        ("nvmlDeviceGetMigMode", {}),
        ("nvmlDeviceGetName", {}),
        ("nvmlDeviceGetMinorNumber", {}),
        ("nvmlDeviceGetPciInfo_v3", {}),
    ],
)
def test_a_function_that_a_product_does_not_support_takes_nothing_else_away(
    monkeypatch: pytest.MonkeyPatch, function: str, gone: dict[str, None]
) -> None:
    driver = gpus(monkeypatch, Gpu("GPU-a", used=5, busy=1, reserved=0, faults={function: NOT_SUPPORTED}))
    (device,) = driver.devices()
    assert device.uuid == "GPU-a"
    values = {"used_mib": 5, "busy_percent": 1, "processes": {}} | gone
    assert driver.use("GPU-a") == Use(**values)  # type: ignore[arg-type]
    assert bool(device.files) == (function != "nvmlDeviceGetMinorNumber")


def test_a_board_that_shares_the_host_s_memory_has_none_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    both = dict.fromkeys(("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2"), NOT_SUPPORTED)
    driver = gpus(monkeypatch, Gpu("GPU-a", faults=both))
    (device,) = driver.devices()
    assert (device.memory_mib, device.measured) == (0, False)
    assert driver.use("GPU-a") == Use(None, 0, {})


def test_memory_of_a_process_that_the_driver_does_not_tell_is_none_and_not_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = gpus(monkeypatch, Gpu("GPU-a", processes={1: None, 2: 64}))
    driver.devices()
    use = driver.use("GPU-a")
    assert use is not None
    assert use.processes == {1: None, 2: 64}


@pytest.mark.parametrize("how", ["no library", "no module", "no bindings"])
def test_a_machine_without_the_driver_is_quietly_cpu_only(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "no library":
        monkeypatch.setattr(pynvml, "nvmlLib", None)
        monkeypatch.setattr(pynvml, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    elif how == "no module":
        FakeNvml(init=DRIVER_NOT_LOADED).install(monkeypatch)
    else:
        monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    with capture_logs() as logs:
        driver = Nvml()
        assert driver.devices() == ()
        assert driver.use("GPU-a") is None
        driver.ready(("GPU-a",))
        driver.close()
    assert (driver.problem, logs) == ("", [])


def test_a_driver_that_was_updated_under_us_is_a_problem_told_once_and_mended_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = FakeNvml(Gpu("GPU-a"), init=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH).install(monkeypatch)
    driver = Nvml()
    with capture_logs() as logs:
        assert driver.devices() == driver.devices() == ()
    assert "version mismatch" in driver.problem
    assert [entry["event"] for entry in logs] == ["nvidia_driver_unusable"]
    library.init = 0
    assert [device.uuid for device in driver.devices()] == ["GPU-a"]
    assert driver.problem == ""


def test_the_loader_is_told_of_the_driver_only_where_it_would_not_look(tmp_path: Path) -> None:
    maps = tmp_path / "proc/self/maps"
    maps.parent.mkdir(parents=True)
    for folder, told in (
        ("/usr/lib/x86_64-linux-gnu", ""),
        ("/usr/lib64", ""),
        ("/usr/local/nvidia/lib64", "/usr/local/nvidia/lib64"),
        ("/nix/store/abc-driver/lib", "/nix/store/abc-driver/lib"),
    ):
        maps.write_text(f"7f00-7f01 r-xp 00000000 08:01 42  {folder}/libnvidia-ml.so.550.54.15\n")
        assert Files(tmp_path).libraries() == told
