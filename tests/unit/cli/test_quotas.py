"""``hansa quota``: figures as people type them, what is not named stays, and the tag that was read goes back."""

import json

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from common.cli.amounts import amount_in_words, held_in_words, parse_amount, parse_size, size_in_words
from common.units import GIB, MIB

NONE = {"gpu_milli": {}, "gpu_memory_mib": {}, "cpu_milli": None, "ram_mib": None}


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("none", NONE),
        ("cuda=2", NONE | {"gpu_milli": {"cuda": 2000}}),
        ("cuda=0.25, rocm=500m", NONE | {"gpu_milli": {"cuda": 250, "rocm": 500}}),
        ("cuda-memory=40GiB", NONE | {"gpu_memory_mib": {"cuda": 40960}}),
        ("tpu-memory=1.5gib,cpu=2.5,ram=512MiB", {"gpu_milli": {}, "gpu_memory_mib": {"tpu": 1536}, "cpu_milli": 2500, "ram_mib": 512}),
        ("cpu=0,ram=64G", NONE | {"cpu_milli": 0, "ram_mib": 65536}),
    ],
)  # fmt: skip
def test_amounts(text, amount):
    assert parse_amount(text, "--limit") == amount


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "WORD=FIGURE"), ("cuda", "WORD=FIGURE"), ("gpu=1", "cuda, rocm, tpu"), ("cuda=1,cuda=2", "twice"), ("cuda=", "number"),
        ("cuda=-1", "number"), ("cuda=0.0001", "thousandths"), ("cpu=1.5m", "thousandths"), ("cpu=1e3", "number"),
        ("cuda=1GiB", "number"), ("ram=64", "whole MiB"), ("ram=1.5KiB", "whole MiB"), ("ram=64GB", "GiB"), ("ram=many", "size"),
        ("none,cpu=1", "WORD=FIGURE"), ("cuda=9999999999999", "too much: 1000000000 at most"),
        ("cpu=1000000000000000000000", "too much"), ("cpu=10^21", "plain number"), ("ram=99999999999999999999TiB", "too much"),
    ],
)  # fmt: skip
def test_what_is_no_amount_is_misuse(text, said):
    with pytest.raises(typer.BadParameter, match=said):
        parse_amount(text, "--limit")


FIGURES = st.integers(0, 10**9)
KINDS = st.dictionaries(st.sampled_from(["cuda", "rocm", "tpu"]), FIGURES)


@given(KINDS, KINDS, st.none() | FIGURES, st.none() | FIGURES)
def test_small_amounts_are_shown_as_they_can_be_typed_again(milli, mib, cpu, ram):
    amount = {
        "gpu_milli": {k: v % 10**6 for k, v in milli.items()},
        "gpu_memory_mib": {k: v % 1024 for k, v in mib.items()},
    }
    amount |= {"cpu_milli": cpu and cpu % 10**6, "ram_mib": ram and ram % 1024}
    assert parse_amount(amount_in_words(amount) or "none", "--limit") == amount


def test_what_is_held_is_shown_without_what_is_nought():
    nought = {"gpu_milli": {"cuda": 0}, "gpu_memory_mib": {}, "cpu_milli": 0, "ram_mib": 0}
    assert [held_in_words(a) for a in (None, nought, nought | {"ram_mib": 512})] == [
        "not known",
        "nothing",
        "ram=512MiB",
    ]


def test_sizes():
    assert [parse_size(t, "-") for t in ("7", "7 bytes", "2GiB", "0.5 gib", "1TiB")] == [
        7,
        7,
        2 * GIB,
        GIB // 2,
        1024 * GIB,
    ]
    assert [size_in_words(n) for n in (0, 617, 40 * GIB, 1536 * GIB, 3 * MIB)] == [
        "0",
        "617B",
        "40GiB",
        "1.5TiB",
        "3MiB",
    ]


def grant(**fields):
    return {
        "site": "north", "tenant": "south", "guarantee": NONE | {"gpu_milli": {"cuda": 1000}}, "limit": NONE, "weight": 2,
        "held": None, "set_by": "ann", "set_at": "2026-01-01T00:00:00.000Z", "etag": '"t1"', "warnings": [], **fields,
    }  # fmt: skip


def allowance(**fields):
    return {
        "tenant": "south", "running_jobs": 8, "queued_jobs": 100, "stored_bytes": 2**30, "default": True, "set_by": "",
        "used": {"running_jobs": 1, "queued_jobs": 3, "stored_bytes": 2**20}, "set_at": None, "etag": '"a1"', **fields,
    }  # fmt: skip


@pytest.fixture
def here(hub):
    hub.on("GET", "/whoami", {"issuer": "hansa", "subject": "ann", "tenants": ["north"], "roles": [], "release": ""})
    hub.on("PUT", "/grants/north/south", grant(warnings=["the guarantees add up to 3 cuda"]))
    hub.on("PUT", "/allowances/south", allowance(default=False, set_by="root"))
    return hub


def sent(hub, method):
    (path, body, headers) = next((p, b, h) for m, p, b, h in hub.asked if m == method)
    return path, json.loads(body) if body else None, headers


def test_a_first_quota_is_sent_as_new_and_its_warning_is_said(hansa, here):
    code, out, err = hansa("quota", "set", "south", "--guarantee", "cuda=2,cpu=8", "--limit", "ram=1GiB")
    assert code == 0
    path, body, headers = sent(here, "PUT")
    assert path == "/grants/north/south"
    assert body == {
        "guarantee": NONE | {"gpu_milli": {"cuda": 2000}, "cpu_milli": 8000}, "limit": NONE | {"ram_mib": 1024}, "weight": 1,
    }  # fmt: skip
    assert (headers["if-none-match"], "if-match" in headers) == ("*", False)
    assert "guarantee  cuda=1" in out
    assert "held now   not known" in out
    assert "warning: the guarantees add up to 3 cuda" in err


def test_what_is_not_named_stays_and_the_tag_goes_back(hansa, here):
    here.on("GET", "/grants/north/south", grant())
    assert hansa("quota", "set", "south", "--weight", "5")[0] == 0
    _, body, headers = sent(here, "PUT")
    assert body == {"guarantee": grant()["guarantee"], "limit": NONE, "weight": 5}
    assert headers["if-match"] == '"t1"'


@pytest.mark.parametrize("refusal", [(404, "not_found"), (403, "policy_denied")])
@pytest.mark.parametrize("act", [("set", "--weight", "5"), ("rm",)])
def test_at_another_s_site_it_is_said_who_may(hansa, here, refusal, act):
    status, code = refusal
    for method, answer, word in (("GET", 404, "not_found"), ("PUT", status, code)):
        problem = {"code": word, "detail": "no grant 'east/south' that you may see", "next_step": ""}
        here.on(method, "/grants/east/south", problem, answer)
    said = hansa("quota", act[0], "south", "--site", "east", *act[1:])[2]
    assert "only an admin of east may change what tenants are given at its nodes; you act for north" in said
    assert "--token TOKEN" in said


def test_none_takes_a_guarantee_back(hansa, here):
    here.on("GET", "/grants/north/south", grant())
    assert hansa("quota", "set", "south", "--guarantee", "none")[0] == 0
    assert sent(here, "PUT")[1]["guarantee"] == NONE


def test_somebody_faster_is_said_with_what_to_do(hansa, here):
    problem = {"code": "changed_meanwhile", "detail": "changed by bob", "next_step": "look again"}
    here.on("PUT", "/grants/north/south", problem, 412)
    code, _, err = hansa("quota", "set", "south", "--weight", "5")
    assert code == 1
    assert "changed by bob" in err
    assert "fix: look again" in err


def test_an_allowance_is_changed_in_part(hansa, here):
    here.on("GET", "/allowances/south", allowance())
    code, out, _ = hansa("quota", "set", "south", "--coordinator", "--stored", "2GiB")
    assert code == 0
    path, body, headers = sent(here, "PUT")
    assert (path, headers["if-match"]) == ("/allowances/south", '"a1"')
    assert body == {"running_jobs": 8, "queued_jobs": 100, "stored_bytes": 2 * GIB}
    assert "running jobs  1 of 8" in out
    assert "stored        1MiB of 1GiB" in out


@pytest.mark.parametrize(
    "argv",
    [
        ["south"],
        ["south", "--coordinator"],
        ["south", "--coordinator", "--weight", "2"],
        ["south", "--coordinator", "--site", "north", "--running-jobs", "1"],
        ["south", "--running-jobs", "0"],
        ["south", "--weight", "0"],
        ["south", "--limit", "gpu=1"],
    ],
)
def test_a_set_that_says_nothing_or_mixes_the_two_changes_nothing(hansa, here, argv):
    assert hansa("quota", "set", *argv)[0] in {1, 2}
    assert not [method for method, *_ in here.asked if method == "PUT"]


def test_lists_and_what_one_tenant_has_everywhere(hansa, here):
    here.items("/grants", [grant(held=NONE | {"gpu_milli": {"cuda": 500}})])
    here.items("/allowances", [allowance(), allowance(tenant="east")])
    here.on("GET", "/allowances/south", allowance())
    code, out, _ = hansa("quota", "ls")
    assert code == 0
    assert out.splitlines()[1].split()[:5] == ["north", "south", "cuda=1", "-", "cuda=0.5"]
    assert [line.split()[0] for line in hansa("quota", "ls", "--coordinator")[1].splitlines()] == [
        "TENANT",
        "south",
        "east",
    ]
    shown = json.loads(hansa("quota", "show", "south", "--json")[1])
    assert (shown["allowance"]["tenant"], shown["grants"][0]["site"]) == ("south", "north")
    here.items("/grants", [])
    assert json.loads(hansa("quota", "ls", "--json")[1]) == []
    assert "all share alike" in hansa("quota", "ls")[2]


def test_removing_names_what_was_seen(hansa, here):
    here.on("GET", "/grants/north/south", grant())
    here.on("DELETE", "/grants/north/south", b"", 204)
    code, _, err = hansa("quota", "rm", "south")
    assert code == 0
    assert sent(here, "DELETE")[2]["if-match"] == '"t1"'
    assert "no quota at north any more" in err
