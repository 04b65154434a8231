"""Settings: typed, flat, deny by default."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

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
