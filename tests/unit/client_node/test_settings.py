"""Settings: typed, flat, deny by default."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from client_node.guard.declared import DeclaredDevice
from client_node.settings import NodeSettings, change, load, save
from common.errors import BadInput


def test_nothing_leaves_a_node_by_default() -> None:
    default = NodeSettings()
    assert default.individual_replies == "deny"
    assert not default.allow_any_app
    assert not default.share_logs
    assert default.sandbox == "bwrap"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("individual_replies", "allow", "allow"),
        ("allow_any_app", "hearts, lungs", ("hearts", "lungs")),
        ("slots", "3", 3),
        ("share_logs", "yes", True),
        ("sandbox", "none", "none"),
        ("labels", "a100, ward-3", ("a100", "ward-3")),
        ("withheld_devices", "GPU-5d1f,MIG-77", ("GPU-5d1f", "MIG-77")),
        ("gpu_poll_ms", "100", 100),
    ],
)
def test_a_setting_survives_the_file(tmp_path: Path, key: str, text: str, value: object) -> None:
    save(tmp_path, change(NodeSettings(), key, text))
    assert getattr(load(tmp_path), key) == value


def test_environments_are_added_and_taken_away_by_name(tmp_path: Path) -> None:
    settings = change(NodeSettings(), "environments.torch", sys.executable)
    settings = change(settings, "environments.default", "-")
    save(tmp_path, settings)
    assert load(tmp_path).environments == {"torch": sys.executable}


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("individual_replies", "maybe"),
        ("slots", "-1"),
        ("slots", "many"),
        ("share_logs", "perhaps"),
        ("sandbox", "docker"),
        ("allow_any_app", "Not A Slug"),
        ("environments.x", "python3"),
        ("environments.x", "/nonexistent/python"),
        ("environments.X Y", sys.executable),
        ("environments", "x"),
        ("nosuch", "1"),
        ("withheld_devices", "GPU_1"),
        ("devices.x", "1"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(key: str, text: str) -> None:
    with pytest.raises(BadInput):
        change(NodeSettings(), key, text)


@pytest.mark.parametrize("text", ["slots = 'x'", "slots = true", "nosuch = 1", "= 3", "environments = 3", "slots = -2"])
def test_a_file_with_a_wrong_value_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(BadInput):
        load(tmp_path)


DECLARED = """
[devices.mi300x-0]
kind = "rocm"
name = "AMD Instinct MI300X"
memory_mib = 196608
handle = "GPU-5d1f8a3e9c7b2046"
files = ["/dev/kfd", "/dev/dri/renderD128"]
"""


def test_devices_that_nothing_measures_are_declared_and_survive_a_change_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(DECLARED)
    save(tmp_path, change(load(tmp_path), "slots", "2"))
    settings = load(tmp_path)
    files = ("/dev/kfd", "/dev/dri/renderD128")
    device = DeclaredDevice("rocm", "AMD Instinct MI300X", 196_608, "GPU-5d1f8a3e9c7b2046", files)
    assert (settings.slots, settings.devices) == (2, {"mi300x-0": device})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('kind = "rocm"', 'kind = "abacus"'),
        ('kind = "rocm"', ""),
        ("memory_mib = 196608", "memory_mib = -1"),
        ("memory_mib = 196608", "memory_mib = 1.5"),
        ("memory_mib = 196608", "memory = 5"),
        ("/dev/kfd", "/etc/shadow"),
        ("/dev/kfd", "/dev/../etc/shadow"),
        ("/dev/kfd", "/dev/.hidden"),
        ('["/dev/kfd", "/dev/dri/renderD128"]', '"/dev/kfd"'),
        ("devices.mi300x-0", "devices.'No Name'"),
        ('name = "AMD Instinct MI300X"', "name = 3"),
    ],
)
def test_a_device_that_is_declared_wrongly_is_refused(tmp_path: Path, old: str, new: str) -> None:
    assert old in DECLARED
    (tmp_path / "settings.toml").write_text(DECLARED.replace(old, new))
    with pytest.raises(BadInput):
        load(tmp_path)
