"""``hansa node …`` as people and programs use it, while no agent runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from client_node.adapters.lease_log import SqliteLeaseLog
from client_node.adapters.state import SqliteState
from client_node.commands import register
from client_node.guard.leases import Lease, Slice
from client_node.guard.service import LeaseEntry
from common.errors import BadInput, Conflict, NotFound, PlatformError
from tests.gpus import FakeNvml, Gpu

APP = "a" * 64


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "ecg.csv"
    path.write_text("a,b\n1,x\n2,y\n")
    return path


class Cli:
    def __init__(self, directory: Path) -> None:
        self._app = typer.Typer()
        self._app.callback()(lambda: None)
        register(self._app)
        self.directory = directory

    def __call__(self, *words: str, code: int = 0) -> str:
        result = CliRunner().invoke(self._app, ["node", *words, "--dir", str(self.directory)])
        if isinstance(result.exception, PlatformError):
            raise result.exception
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        return result.stdout

    def json(self, *words: str, code: int = 0) -> object:
        return json.loads(self(*words, "--json", code=code))


@pytest.fixture
def hansa(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "node")


def test_a_dataset_goes_through_its_whole_life(hansa: Cli, data: Path) -> None:
    hansa("dataset", "add", "ecg", str(data))
    hansa("dataset", "share", "ecg", "--federation", "hearts")
    (row,) = hansa.json("dataset", "ls")
    assert (row["rows"], row["federations"]) == (2, ["hearts"])
    assert row["columns"] == [{"name": "a", "type": "int"}, {"name": "b", "type": "string"}]
    hansa("dataset", "unshare", "ecg", "--federation", "hearts")
    hansa("dataset", "rm", "ecg", "--yes")
    assert hansa.json("dataset", "ls") == []
    assert data.exists()


def test_wrong_words_are_refused(hansa: Cli, data: Path) -> None:
    for words, error in (
        (("dataset", "add", "ecg", "/nowhere.csv"), BadInput),
        (("dataset", "add", "Not A Name", str(data)), BadInput),
        (("dataset", "add", "ecg", str(data), "--format", "xlsx"), BadInput),
        (("dataset", "share", "ecg", "--federation", "hearts"), NotFound),
        (("dataset", "show", "ecg"), NotFound),
        (("dataset", "rm", "ecg", "--yes"), NotFound),
        (("app", "approve", "abc", "--federation", "hearts"), BadInput),
        (("app", "approve", "*", "--federation", "hearts"), BadInput),
        (("app", "approve", APP, "--federation", "No Slug"), BadInput),
        (("app", "revoke", APP, "--federation", "hearts"), NotFound),
        (("policy", "set", "sandbox", "docker"), BadInput),
        (("run",), NotFound),
        (("install-service",), NotFound),
    ):
        with pytest.raises(error):
            hansa(*words)
    hansa("dataset", "add", "ecg", str(data))
    with pytest.raises(Conflict):
        hansa("dataset", "add", "ecg", str(data))
    hansa("dataset", "add", "ecg", str(data), "--replace")


def test_an_app_is_approved_and_revoked(hansa: Cli) -> None:
    hansa("app", "approve", APP, "--federation", "hearts", "--name", "heart v1")
    (row,) = hansa.json("app", "ls")
    assert (row["federation"], row["app_digest"], row["name"]) == ("hearts", APP, "heart v1")
    hansa("app", "revoke", APP, "--federation", "hearts")
    assert hansa.json("app", "ls") == []


def test_a_setting_is_changed_and_shown(hansa: Cli) -> None:
    hansa("policy", "set", "allow_any_app", "hearts,lungs")
    assert hansa.json("policy", "show")["allow_any_app"] == ["hearts", "lungs"]


@pytest.mark.parametrize(
    "words",
    ["status", "leases", "devices", "refusals", "policy show", "app ls", "dataset ls", "dataset show ecg"],
)
def test_looking_at_what_is_no_node_fails_with_the_next_step_and_makes_nothing(hansa: Cli, words: str) -> None:
    with pytest.raises(NotFound, match="is no node's directory") as raised:
        hansa(*words.split())
    assert f"hansa node join https://HOST:PORT --token TOKEN --dir {hansa.directory}" in raised.value.next_step
    assert not hansa.directory.exists()


def test_status_of_a_node_that_has_not_joined_says_so(hansa: Cli) -> None:
    hansa("policy", "set", "slots", "2")
    shown = hansa.json("status")
    assert shown["agent"] == "has not joined"
    assert shown["pid"] is None


def test_the_doctor_names_one_next_step_for_all_that_is_amiss(hansa: Cli, data: Path) -> None:
    hansa("dataset", "add", "ecg", str(data))
    data.write_text("a,b\n1,x\n")
    checks = {check["name"]: check for check in hansa.json("doctor", code=1)}
    assert not checks["directory"]["ok"]
    assert not checks["approvals"]["ok"]
    assert not checks["dataset ecg"]["ok"]
    assert all(check["next_step"] for check in checks.values() if not check["ok"])
    assert "ecg.csv" not in json.dumps(checks["directory"])


def test_uninstalling_leaves_data_and_what_is_not_ours(hansa: Cli, data: Path) -> None:
    hansa("dataset", "add", "ecg", str(data))
    (hansa.directory / "notes.txt").write_text("mine")
    hansa("uninstall", "--yes")
    assert data.exists()
    assert os.listdir(hansa.directory) == ["notes.txt"]  # noqa: PTH208


def test_a_dry_run_of_the_service_changes_nothing(hansa: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    plan = hansa.json("install-service", "--dry-run")
    assert plan["path"] == str(tmp_path / "config" / "systemd" / "user" / "hansa-node.service")
    assert not Path(plan["path"]).exists()


def test_the_node_s_own_log_shows_leases_and_each_tenant_s_sums(hansa: Cli) -> None:
    hansa("policy", "set", "slots", "2")
    assert hansa.json("leases") == {"since": None, "tenants": [], "leases": []}
    state = SqliteState(hansa.directory / "node.sqlite")
    log = SqliteLeaseLog(state)
    for key, tenant, start, slices in (
        ("a", "north", 1000.0, (Slice("GPU-a", 500, 40_000),)),
        ("b", "south", 1010.0, ()),
    ):
        lease = Lease(f"l-{key}", f"job_1/0/{key}", "job_1", tenant, slices, 2000, 4096)
        log.begin(key, lease, start, ("visible", "files"))
        if slices:
            log.end(key, LeaseEntry(lease, start, start + 8, 8.0, "done", ("visible",), 900))
    state.close()
    found = hansa.json("leases")
    assert found["tenants"] == [
        {"tenant": "north", "leases": 1, "held_s": 8.0, "gpu_s": 4.0, "cpu_s": 16.0},
        {"tenant": "south", "leases": 1, "held_s": 0.0, "gpu_s": 0.0, "cpu_s": 0.0},
    ]
    done, left = found["leases"]
    assert (done["on"], done["milli"], done["outcome"], done["peak_mib"]) == ("500/1000 of GPU-a", 500, "done", 900)
    assert (done["start"], done["end"]) == ("1970-01-01T00:16:40.000Z", "1970-01-01T00:16:48.000Z")
    assert (left["on"], left["outcome"]) == ("CPU only", "interrupted")  # no agent runs that could hold it
    assert [row["tenant"] for row in hansa.json("leases", "--since", "1970-01-01T00:16:45Z")["tenants"]] == [
        "north",
        "south",
    ]
    assert hansa.json("leases", "--since", "1970-01-01T00:16:45")["tenants"][0]["gpu_s"] == 1.5
    assert [row["tenant"] for row in hansa.json("leases", "--since", "1d")["leases"]] == ["south"]
    assert "north" in hansa("leases")
    with pytest.raises(BadInput):
        hansa("leases", "--since", "yesterday")


def test_devices_are_listed_as_they_are_and_as_they_are_lent(hansa: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeNvml(Gpu("GPU-a", used=10, minor=199, processes={1: 10}), Gpu("GPU-b")).install(monkeypatch)
    hansa("policy", "set", "withheld_devices", "GPU-b")
    rows = hansa.json("devices")
    assert [(row["uuid"], row["used_mib"], row["processes"], row["lent"]) for row in rows] == [
        ("GPU-a", 10, {"1": 10}, True), ("GPU-b", 0, {}, False),
    ]  # fmt: skip
    (check,) = [check for check in hansa.json("doctor", code=1) if check["name"] == "devices"]
    assert not check["ok"]  # there is no /dev/nvidia199 here, whatever the library says
    assert "/dev/nvidia199" in check["found"]
    FakeNvml().install(monkeypatch)
    assert hansa.json("devices") == []
    (check,) = [check for check in hansa.json("doctor", code=1) if check["name"] == "devices"]
    assert (check["ok"], check["found"]) == (True, "no accelerator: tasks run on the CPU")
