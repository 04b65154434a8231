"""Answers that are refusals become the errors everybody else speaks of."""

import json

import pytest

from common import errors
from common.client.problems import error_of, unreachable


def problem(**fields: object) -> bytes:
    return json.dumps({"type": "about:blank", "title": "t", "status": 400, "errors": [], **fields}).encode()


SHARED = [k for k in vars(errors).values() if isinstance(k, type) and k not in {errors.AppFailed, errors.PlatformError}]


@pytest.mark.parametrize("kind", SHARED)
def test_every_code_comes_back_as_its_class(kind):
    error = error_of(400, problem(code=kind.code, detail="what", next_step="do this"))
    assert type(error) is kind
    assert (error.detail, error.next_step) == ("what", "do this")


def test_a_failed_app_keeps_its_reason():
    error = error_of(409, problem(code="app_failed", detail="x", reason="app_crashed"))
    assert isinstance(error, errors.AppFailed)
    assert error.reason == "app_crashed"


def test_an_unknown_code_is_judged_by_status_and_kept():
    error = error_of(403, problem(code="node_revoked", detail="x"))
    assert isinstance(error, errors.PolicyDenied)
    assert error.code == "node_revoked"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, errors.Unauthenticated), (404, errors.NotFound), (413, errors.QuotaExceeded), (502, errors.Unreachable)],
)
def test_a_proxy_that_speaks_html_is_judged_by_status(status, kind):
    error = error_of(status, b"<html>" + b"x" * 10_000)
    assert type(error) is kind
    assert len(error.detail) < 600


def test_every_fault_of_a_bad_request_is_shown():
    body = problem(
        code="bad_input",
        detail="2 faults",
        errors=[{"pointer": "/body/ttl_s", "detail": "too small"}, {"pointer": "/body/id", "detail": "no slug"}],
    )
    assert error_of(422, body).detail.splitlines() == ["2 faults", "  /body/ttl_s: too small", "  /body/id: no slug"]


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b"\xff\xfe", b'{"detail": null}', b'{"code": 3}'])
def test_hostile_bodies_still_make_an_error(body):
    assert isinstance(error_of(500, body), errors.PlatformError)


def test_a_certificate_nobody_vouches_for_names_the_flag_that_helps():
    error = unreachable("https://x:1", OSError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"))
    assert "--ca" in error.next_step
