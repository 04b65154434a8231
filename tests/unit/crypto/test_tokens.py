"""Tokens people copy: what reads back, what is refused, what is kept."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.crypto.tokens import (
    make_api_token,
    make_join_token,
    parse_api_token,
    parse_join_token,
    secret_matches,
    secret_sha256,
)
from common.errors import BadInput

CA = "ab" * 32


def test_a_join_token_reads_back_with_spaces_around_it() -> None:
    token = make_join_token("acme", CA)
    assert parse_join_token(f"  {token.text}\n") == token
    assert token.text.startswith("hjt1_")
    assert make_join_token("acme", CA).secret != token.secret


def test_a_secret_does_not_show_in_a_representation() -> None:
    token = make_join_token("acme", CA)
    assert token.secret not in repr(token)


def test_an_api_token_reads_back() -> None:
    token_id, secret, text = make_api_token()
    assert text == f"hat1_{token_id}.{secret}"
    assert parse_api_token(text) == (token_id, secret)


def test_only_the_hash_of_a_secret_is_kept() -> None:
    assert secret_sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert secret_matches("abc", secret_sha256("abc"))
    assert not secret_matches("abd", secret_sha256("abc"))


def encoded(body: object) -> str:
    return "hjt1_" + base64.urlsafe_b64encode(json.dumps(body).encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hjt1_",
        "hjt2_abc",
        make_join_token("acme", CA).text[:-9],
        make_join_token("acme", "zz").text,
        encoded([]),
        encoded({"id": "jt_1", "secret": "s" * 43, "tenant": "acme"}),
        encoded({"id": "jt_1", "secret": 5, "tenant": "acme", "ca": CA}),
        encoded({"id": "../..", "secret": "s" * 43, "tenant": "acme", "ca": CA}),
        "hjt1_" + "A" * 5000,
    ],
)
def test_a_damaged_join_token_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_join_token(text)


def test_an_api_token_in_the_join_tokens_place_is_named() -> None:
    with pytest.raises(BadInput, match="API token, not a join token"):
        parse_join_token(make_api_token()[2])


@given(st.text(max_size=200))
def test_any_text_is_a_token_or_bad_input(text: str) -> None:
    for parse in (parse_join_token, parse_api_token):
        for candidate in (text, "hjt1_" + text, "hat1_" + text):
            with contextlib.suppress(BadInput):
                parse(candidate)
