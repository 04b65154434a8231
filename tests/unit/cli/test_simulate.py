"""``hansa simulate``: a real child, the skeletons that ``hansa new`` makes, and how an app's faults are told."""

import json

import pytest

from common.cli.newapp import Framework, write_app


@pytest.mark.parametrize("framework", [Framework.NUMPY, Framework.SKLEARN])
def test_a_new_app_trains_as_it_is(hansa, tmp_path, framework):
    app = write_app("my-app", framework, tmp_path)
    code, out, _ = hansa("simulate", app, "--nodes", "3", "-c", "num-server-rounds=2", "--json", "-q")
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    assert events[-1]["event"] == "finished"
    losses = [e["evaluate"]["loss"] for e in events if e["event"] == "round_done" and e.get("evaluate")]
    assert len(losses) == 2
    assert losses[-1] < 0.7  # ln 2 is what knowing nothing gives


def test_the_rounds_are_a_table_on_stdout(hansa, tmp_path):
    app = write_app("my-app", Framework.NUMPY, tmp_path)
    result = tmp_path / "out.safetensors"
    code, out, err = hansa("simulate", app, "-c", "num-server-rounds=2", "-q", "--result", result)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["ROUND", "1", "2"]
    assert "clients/s" in err
    assert result.stat().st_size > 0


def test_an_app_that_raises_is_told_by_its_reason(hansa, tmp_path):
    app = write_app("my-app", Framework.NUMPY, tmp_path)
    (app / "my_app" / "server.py").write_text("raise RuntimeError('broken on purpose')\n")
    code, out, err = hansa("simulate", app, "-q")
    assert (code, out) == (1, "")
    assert "broken on purpose" in err
    assert "hansa explain app_raised" in err


def test_a_run_config_of_the_wrong_kind_is_found_before_anything_runs(hansa, tmp_path):
    app = write_app("my-app", Framework.NUMPY, tmp_path)
    code, _, err = hansa("simulate", app, "-c", "num-server-rounds=many")
    assert code == 1
    assert "num-server-rounds is int" in err


def test_a_folder_that_is_no_app_is_said(hansa, tmp_path):
    assert "pyproject.toml" in hansa("simulate", tmp_path)[2]
