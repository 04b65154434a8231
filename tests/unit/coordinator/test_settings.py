"""Settings: defaults, the file, the environment, flags, in that order."""

import sys

import pytest

from common.errors import BadInput
from coordinator.settings import load


def test_each_source_wins_over_the_one_before(tmp_path):
    (tmp_path / "settings.toml").write_text('port = 1\nlink_port = 1\nhost = "10.0.0.1"\n')
    settings = load(tmp_path, {"HANSA_LINK_PORT": "2", "HANSA_HOST": "10.0.0.2"}, {"host": "10.0.0.3", "port": None})
    assert (settings.port, settings.link_port, settings.host) == (1, 2, "10.0.0.3")


def test_a_misspelt_key_is_refused_by_name(tmp_path):
    (tmp_path / "settings.toml").write_text("prot = 1\n")
    with pytest.raises(BadInput, match="prot"):
        load(tmp_path, {}, {})


@pytest.mark.parametrize(
    "text", ['port = "x"', "port = true", "port = -1", 'sandbox = "docker"', "grace_s = -1.0", "= 1"]
)
def test_a_value_of_the_wrong_kind_is_refused(tmp_path, text):
    (tmp_path / "settings.toml").write_text(text + "\n")
    with pytest.raises(BadInput):
        load(tmp_path, {}, {})


def test_environments_come_beside_our_own_interpreter(tmp_path):
    (tmp_path / "settings.toml").write_text('[environments]\ntorch = "/opt/torch/bin/python"\n')
    jobs = load(tmp_path, {}, {}).jobs
    assert jobs.environments == {"default": sys.executable, "torch": "/opt/torch/bin/python"}


def test_the_environment_may_name_several_of_a_kind(tmp_path):
    settings = load(tmp_path, {"HANSA_NAMES": "a.example,b.example", "HANSA_ENVIRONMENTS": "x=/p:y=/q"}, {})
    assert settings.names == ("a.example", "b.example")
    assert settings.environments == {"x": "/p", "y": "/q"}
