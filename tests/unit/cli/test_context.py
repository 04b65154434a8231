"""The context file: whole, private, and never one coordinator's token for another."""

import json
import stat

import pytest

from common.cli.context import Context, Contexts, context_path, load, save
from common.cli.session import Session
from common.errors import BadInput, NotFound

HERE = Context("https://hub:1", "hat1_a.b", "/ca.pem")
WHOAMI = {"issuer": "hansa", "subject": "ana", "tenants": ["a"], "roles": ["scientist"], "release": "0.1.0"}


def test_what_was_saved_is_loaded_and_private(tmp_path):
    path = tmp_path / "deep" / "context.json"
    contexts = Contexts().having("a", HERE).having("b", Context("https://b:2", "t", keys={"k": "00"}))
    save(path, contexts)
    assert load(path) == contexts
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["context.json"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"contexts": 3}', '{"contexts": {"a": {"nope": 1}}, "current": "a"}'])
def test_a_damaged_file_is_said_and_never_guessed(tmp_path, text):
    (tmp_path / "c").write_text(text)
    with pytest.raises(BadInput):
        load(tmp_path / "c")


def test_no_file_is_no_context(tmp_path):
    with pytest.raises(NotFound):
        load(tmp_path / "none").get()


def test_the_file_s_place():
    assert str(context_path({"HANSA_CONTEXT": "/x/y"})) == "/x/y"
    assert str(context_path({"XDG_CONFIG_HOME": "/c"})) == "/c/hansa/context.json"


def test_a_saved_token_never_goes_to_another_coordinator(tmp_path, monkeypatch):
    save(tmp_path / "c", Contexts().having("a", HERE))
    monkeypatch.setenv("HANSA_CONTEXT", str(tmp_path / "c"))
    assert Session().connection == HERE
    assert Session(url="https://hub:1/").connection.token == HERE.token
    with pytest.raises(BadInput, match="no token"):
        _ = Session(url="https://evil:1").connection


def test_login_checks_the_token_and_remembers_it(hub, hansa, tmp_path, monkeypatch):
    monkeypatch.setenv("HANSA_CONTEXT", str(tmp_path / "c"))
    hub.on("GET", "/whoami", WHOAMI)
    (tmp_path / "t").write_text("hat1_x.y\n")
    key = "kid=" + "ab" * 32
    code, out, err = hansa("login", "--url", hub.url, "--token-file", tmp_path / "t", "--name", "n", "--key", key)
    assert (code, out) == (0, "")
    assert "ana" in err
    assert load(tmp_path / "c").get() == Context(hub.url, "hat1_x.y", "", {"kid": "ab" * 32})
    code, out, _ = hansa("context", "ls", "--json")
    assert json.loads(out) == [{"name": "n", "current": True, "url": hub.url, "ca": ""}]
    assert hansa("context", "use", "m")[0] == 1


def test_a_refused_login_writes_nothing(hub, hansa, tmp_path, monkeypatch):
    monkeypatch.setenv("HANSA_CONTEXT", str(tmp_path / "c"))
    hub.on("GET", "/whoami", {"code": "unauthenticated", "detail": "no"}, 401)
    assert hansa("login")[0] == 1
    assert not (tmp_path / "c").exists()


def test_showing_the_context_never_shows_the_secret(hansa):
    _, out, _ = hansa("context", "show", "--token", "hat1_public.secret")
    assert "secret" not in out
    assert "hat1_public" in out
