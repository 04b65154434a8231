"""The systemd unit of the agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from client_node.services.node_dir import NodeDir
from client_node.services.service_unit import installed, planned, remove, unit_text
from common.errors import BadInput

DEPLOYED = Path(__file__).parents[3] / "deploy" / "systemd" / "hansa-node.service"


def test_the_unit_in_deploy_is_the_one_that_the_command_writes() -> None:
    place = Path("/var/lib/hansa/node")
    command = ("/opt/hansa/bin/hansa", "node", "run", "--dir", str(place))
    assert DEPLOYED.read_text() == unit_text(place, command, "system", "hansa")


def test_odd_paths_are_quoted_for_systemd() -> None:
    text = unit_text(Path('/data/50% "new" $x'), ("/bin/hansa", '/data/50% "new" $x'), "system", "hansa")
    assert 'ExecStart=/bin/hansa "/data/50%% \\"new\\" $$x"' in text


def test_a_line_break_cannot_smuggle_a_directive_in() -> None:
    with pytest.raises(BadInput):
        unit_text(Path("/data"), ("/bin/hansa", "x\nExecStartPre=/bin/evil"), "user", "me")


def test_a_users_unit_asks_for_nothing_that_a_users_manager_cannot_give() -> None:
    text = unit_text(Path("/data"), ("/bin/hansa",), "user", "me")
    assert "User=" not in text
    assert "ProtectSystem" not in text
    assert "WantedBy=default.target" in text


@pytest.mark.parametrize("unit", ["", "../evil", "a b", "-x"])
def test_a_unit_has_a_plain_name(tmp_path: Path, unit: str) -> None:
    with pytest.raises(BadInput):
        planned(NodeDir(tmp_path), "user", unit)


def test_a_unit_is_put_where_systemd_looks_and_removed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from client_node.services.service_unit import install

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no systemctl: what is left to do is told instead
    place = NodeDir(tmp_path / "node")
    place.prepare()
    service, text = planned(place, "user", "hansa-node")
    left = install(place, service, text)
    unit = tmp_path / "config" / "systemd" / "user" / "hansa-node.service"
    assert unit.read_text() == text
    assert installed(place) == service
    assert left == ["systemctl --user daemon-reload", "systemctl --user enable --now hansa-node.service"]
    remove(place, service)
    assert not unit.exists()
    assert installed(place) is None
