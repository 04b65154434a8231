"""An error is the same at both ends of the link."""

from __future__ import annotations

import grpc
import pytest

from common import errors
from common.wire.status import STATUS, error_of, status_of, trailers_of


@pytest.mark.parametrize("cls", STATUS)
def test_each_error_crosses_the_link_as_itself(cls: type[errors.PlatformError]) -> None:
    sent = cls("Größe 5 > 4", next_step="wähle weniger", code="narrow_code")
    came = error_of(status_of(sent), sent.detail, trailers_of(sent))
    assert type(came) is cls
    assert (came.detail, came.next_step, came.code) == (sent.detail, sent.next_step, "narrow_code")


def test_trailers_are_ascii_whatever_the_text() -> None:
    for _, value in trailers_of(errors.BadInput("ä", next_step="日本\n", code="c")):
        assert value.isascii()
        assert value.isprintable()


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unreachable),
        (grpc.StatusCode.INTERNAL, errors.Unreachable),
        (grpc.StatusCode.PERMISSION_DENIED, errors.PolicyDenied),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.QuotaExceeded),
        (grpc.StatusCode.UNIMPLEMENTED, errors.VersionMismatch),
    ],
)
def test_what_grpc_itself_says_has_a_class_too(status: grpc.StatusCode, cls: type[errors.PlatformError]) -> None:
    assert type(error_of(status, None, None)) is cls


def test_a_subclass_travels_as_its_nearest_class() -> None:
    class Odd(errors.NotFound):
        code = "odd"

    assert type(error_of(status_of(Odd("x")), "x", trailers_of(Odd("x")))) is errors.NotFound
