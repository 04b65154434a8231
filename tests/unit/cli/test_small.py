"""Small parts: run config, references, ages, explanations, tables."""

import io
import tomllib
from pathlib import Path

import pytest
import typer

from common import errors
from common.cli.codes import meanings
from common.cli.groups.nodes import _datasets, _shares
from common.cli.output import Output, age, aligned, cell
from common.cli.refs import ModelRef
from common.cli.resolve import pick
from common.cli.runconfig import parse_run_config
from common.errors import BadInput, NotFound


@pytest.mark.parametrize(
    ("given", "config"),
    [
        (["a=1"], {"a": 1}),
        (["a=1 b=0.5 c=true d='x y' e=\"z\""], {"a": 1, "b": 0.5, "c": True, "d": "x y", "e": "z"}),
        (["a=1", "a=2"], {"a": 2}),
        (["path=/data/x=y"], {"path": "/data/x=y"}),
        (["text=hello world"], {"text": "hello world"}),
        (["text="], {"text": ""}),
        (["list=[1]"], {"list": "[1]"}),
        (["deep.key=1e-3"], {"deep.key": 0.001}),
    ],
)
def test_run_config_is_read_as_flower_reads_it(given, config):
    assert parse_run_config(given) == config


@pytest.mark.parametrize("text", ["", "a", "=1", "  =1"])
def test_what_is_no_setting_is_misuse(text):
    with pytest.raises(typer.BadParameter):
        parse_run_config([text])


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("heart", ModelRef("heart")),
        ("a/heart:3", ModelRef("heart", "a", version=3)),
        ("heart:v3", ModelRef("heart", version=3)),
        ("heart:prod", ModelRef("heart", alias="prod")),
    ],
)
def test_model_references(text, ref):
    assert ModelRef.parse(text) == ref


@pytest.mark.parametrize("text", ["", "a/b/c", "UP", "heart:0", "heart:-1", "../x", "heart:a b", "heart:99999999999"])
def test_what_is_no_reference_is_said(text):
    if text.endswith(("0", "9")):
        assert ModelRef.parse(text).version == 0  # a name, which no version has
        return
    with pytest.raises(BadInput):
        ModelRef.parse(text)


def test_ages():
    now = 1_767_225_600.0  # 2026-01-01T00:00:00Z
    assert age("2025-12-31T23:59:48.000Z", now) == "12s"
    assert age("2025-12-31T23:00:00Z", now) == "60m"
    assert age("2025-12-22T00:00:00Z", now) == "10d"
    assert age("2026-01-01T03:00:00Z", now) == "in 3h"
    assert (age(None, now), age("soon", now)) == ("-", "soon")


def test_prefixes():
    ids = ["job_aa1", "job_ab1"]
    assert pick("aa", ids, what="job", prefix="job_", ls="") == "job_aa1"
    assert pick("job_ab", ids, what="job", prefix="job_", ls="") == "job_ab1"
    for bad, kind in (("a", BadInput), ("zz", NotFound), ("", NotFound)):
        with pytest.raises(kind):
            pick(bad, ids, what="job", prefix="job_", ls="")


def test_cells_are_one_plain_line():
    assert cell("a\nb\tc\x07") == "a b c\N{REPLACEMENT CHARACTER}"
    assert [cell(v) for v in (None, "", True, 0.123456, [], ["a", 1])] == ["-", "-", "yes", "0.1235", "-", "a, 1"]


def test_columns_line_up():
    assert aligned(["A", "LONG"], [["xyz", "1"]]) == ["A    LONG", "xyz  1"]


def test_a_terminal_gets_a_drawn_table_without_colour_if_it_says_so(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("NO_COLOR", "1")
    screen = Terminal()
    Output(out=screen).table(["A"], [["[red]x[/red]"]])
    assert "╭" in screen.getvalue()
    assert "[red]x[/red]" in screen.getvalue()  # what a tenant wrote is no markup
    assert "\x1b[3" not in screen.getvalue()


def test_every_error_of_ours_is_explained():
    kinds = [kind for kind in errors.PlatformError.__subclasses__() if kind.__module__ == "common.errors"]
    assert {kind.code for kind in kinds} <= set(meanings())


def test_every_reason_of_a_child_or_lease_is_explained():
    reasons = (
        "app_raised app_exited app_crashed app_killed app_timeout app_memory missing_imports component_not_found "
        "bad_reply diverged refused too_few_nodes protocol_error gpu_memory gpu_lost no_device device_full"
    )
    assert set(reasons.split()) <= set(meanings())


def test_explaining(hansa):
    code, out, _ = hansa("explain", "APP-NOT-APPROVED")
    assert code == 0
    assert "hansa node app approve" in out
    code, _, err = hansa("explain", "ap_raised")
    assert code == 1
    assert "app_raised" in err


def test_an_app_s_digest_is_printed_alone(hansa, tmp_path):
    _, made, _ = hansa("new", "my-app", "--into", tmp_path)
    code, out, err = hansa("app", "digest", made.strip())
    assert code == 0
    assert len(out) == 65
    assert "hansa node app approve" in err


@pytest.mark.parametrize("framework", ["numpy", "torch", "sklearn"])
def test_a_new_app_is_a_flower_app(hansa, tmp_path, framework):
    _, made, _ = hansa("new", "my-app", "--framework", framework, "--into", tmp_path)
    folder = Path(made.strip())
    components = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["components"]
    assert components == {"serverapp": "my_app.server:app", "clientapp": "my_app.client:app"}
    for path in folder.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")
        assert "@" not in path.read_text().replace("@app.", "").replace("x @ ", "").replace("x.T @ ", "").replace(
            "x @", ""
        )


@pytest.mark.parametrize("name", ["../x", "Up", "1st", "", "a/b"])
def test_a_new_app_s_name_cannot_lead_elsewhere(hansa, tmp_path, name):
    assert hansa("new", name, "--into", tmp_path)[0] == 1
    assert not list(tmp_path.iterdir())


def test_a_new_app_never_overwrites(hansa, tmp_path):
    (tmp_path / "x").mkdir()
    assert hansa("new", "x", "--into", tmp_path)[0] == 1


def test_a_dataset_that_is_shared_twice_is_listed_once():
    shares = [{"name": "heart", "rows": 304, "federation": name} for name in ("hospitals", "trial")]
    assert _datasets({"datasets": shares}) == "heart (304 rows)"
    assert _shares({"datasets": shares}) == "heart (304 rows) in hospitals, heart (304 rows) in trial"
