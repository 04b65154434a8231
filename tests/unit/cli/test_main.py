"""Flags on either side of a command, exit codes, data on stdout and talk on stderr."""

import json
from importlib.metadata import EntryPoint, version

import pytest

from common.cli import failures
from common.cli.__main__ import run
from common.errors import AppFailed, PolicyDenied


def refuse(code, status=400):
    return {"code": code, "detail": "the reason", "next_step": "the way out"}, status


@pytest.mark.parametrize("argv", [("--json", "job", "ls"), ("job", "ls", "--json"), ("job", "--json", "ls")])
def test_json_is_understood_anywhere_and_an_empty_list_is_a_list(hub, hansa, argv):
    hub.items("/jobs", [])
    assert hansa(*argv) == (0, "[]\n", "")


def test_an_empty_list_tells_a_person_what_to_type(hub, hansa):
    hub.items("/jobs", [])
    code, out, err = hansa("job", "ls")
    assert (code, out) == (0, "")
    assert "hansa job submit" in err


@pytest.mark.parametrize(
    ("code", "status", "exit_code"),
    [
        ("bad_input", 400, 1), ("unauthenticated", 401, 1), ("policy_denied", 403, 3), ("not_found", 404, 1),
        ("too_few_nodes", 409, 3), ("budget_exhausted", 409, 4), ("unreachable", 503, 5), ("version_mismatch", 426, 6),
        ("cannot_be_placed", 403, 3), ("node_revoked", 403, 3), ("cannot_bind", 503, 5),
    ],
)  # fmt: skip
def test_each_refusal_has_its_exit_code(hub, hansa, code, status, exit_code):
    hub.on("GET", "/jobs", *refuse(code, status))
    got, out, err = hansa("job", "ls")
    assert (got, out) == (exit_code, "")
    assert err.splitlines() == ["error: the reason", "  fix: the way out", f" more: hansa explain {code}"]


def test_errors_are_json_for_programs(hub, hansa):
    hub.on("GET", "/jobs", *refuse("policy_denied", 403))
    _, _, err = hansa("job", "ls", "--json")
    assert json.loads(err) == {"error": {"code": "policy_denied", "detail": "the reason", "next_step": "the way out"}}


def test_nobody_there_is_code_5(hansa):
    assert hansa("job", "ls", "--url", "http://127.0.0.1:9")[0] == 5


@pytest.mark.parametrize("argv", [("job", "nonsense"), ("job", "ls", "--nonsense"), ("job", "ls", "--limit", "0")])
def test_misuse_is_code_2(hansa, argv):
    code, out, err = hansa(*argv)
    assert (code, out) == (2, "")
    assert "Usage" in err or "Error" in err


def test_a_misspelt_command_is_put_right(hansa):
    assert "submit" in hansa("job", "sumbit")[2]


def test_flags_win_over_the_environment(hub, hansa):
    hub.items("/jobs", [])
    hansa("job", "ls", "--token", "other")
    assert hub.asked[-1][3]["authorization"] == "Bearer other"


def test_without_any_coordinator_the_way_to_one_is_named(monkeypatch, capfd):
    monkeypatch.delenv("HANSA_URL", raising=False)
    assert run(["job", "ls"]) == 1
    assert "hansa login" in capfd.readouterr().err


def test_a_side_s_command_understands_json_in_front_too(hansa, tmp_path):
    code, out, err = hansa("--json", "node", "app", "ls", "--dir", tmp_path)
    assert (code, out) == (1, "")
    assert json.loads(err)["error"]["code"] == "not_found"  # nobody has joined from there


def test_a_side_that_is_not_installed_says_what_to_install(hansa, monkeypatch):
    def entry(**_):
        return [EntryPoint("fancy", "no_such_module_here:register", "hansa.commands")]

    monkeypatch.setattr("common.cli.root.entry_points", entry)
    code, _, err = hansa("fancy", "do", "--it")
    assert code == 1
    assert "pip install 'hansa[fancy]'" in err


def test_version_goes_to_stdout(hansa):
    assert hansa("--version") == (0, version("hansa") + "\n", "")


def test_a_failed_app_is_told_by_its_reason():
    assert failures.code_of(AppFailed("x", reason="missing_imports")) == "missing_imports"
    assert failures.exit_code("missing_imports") == failures.REFUSED
    assert failures.code_of(PolicyDenied("x", code="node_revoked")) == "node_revoked"


def test_a_refusal_that_quotes_a_tenant_cannot_move_the_terminal_either(hub, hansa):
    hub.on("GET", "/jobs", {"code": "conflict", "detail": "\x1b[31mred\x1b[0m \x1b]0;title\x07", "next_step": ""}, 409)
    _, _, err = hansa("job", "ls")
    assert err.startswith("error: red \N{REPLACEMENT CHARACTER}]0;title")
    assert "\x1b" not in err


def test_what_a_tenant_wrote_cannot_move_the_terminal(hub, hansa, job):
    hub.items("/jobs", [job(note="\x1b[2Jgone\x9b31m\u202e")])
    _, out, _ = hansa("job", "ls")
    assert not {"\x1b", "\x9b", "\u202e"} & set(out)
