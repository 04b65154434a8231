"""Secrets people carry: join tokens and API tokens.

Only the SHA-256 of a secret is kept (it has 256 random bits, so a slow hash would gain nothing), and comparison takes
the same time whatever differs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass, field

from common.errors import BadInput
from common.ids import new_id

JOIN_PREFIX = "hjt1_"
API_PREFIX = "hat1_"
MAX_TOKEN = 2048  # characters
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_ID = re.compile(r"[a-z]{1,8}_[0-9a-z]{1,32}")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class JoinToken:
    """What a node operator pastes: who may join as what, and which CA to trust.

    The CA's hash lets the node verify the coordinator before it sends the secret.
    """

    id: str
    secret: str = field(repr=False)
    tenant: str
    ca: str  # hex SHA-256 of the CA certificate (DER)

    @property
    def text(self) -> str:
        """The token as one word."""
        body = json.dumps({"id": self.id, "secret": self.secret, "tenant": self.tenant, "ca": self.ca})
        return JOIN_PREFIX + base64.urlsafe_b64encode(body.encode()).rstrip(b"=").decode()


def new_secret() -> str:
    """Return 256 random bits as 43 characters."""
    return secrets.token_urlsafe(32)


def make_join_token(tenant: str, ca: str) -> JoinToken:
    """Return a fresh join token of ``tenant`` that pins the CA certificate with hash ``ca``."""
    return JoinToken(new_id("jt"), new_secret(), tenant, ca)


def parse_join_token(text: str) -> JoinToken:
    """Return the token written in ``text``.

    Raises:
        BadInput: it is no join token, or was cut off when it was copied.
    """
    text = text.strip()
    if text.startswith(API_PREFIX):
        raise BadInput(
            "this is an API token, not a join token",
            next_step="ask a tenant admin for one: hansa tenant join-token",
        )
    if not text.startswith(JOIN_PREFIX) or len(text) > MAX_TOKEN:
        raise BadInput(f"a join token begins with {JOIN_PREFIX!r}", next_step="copy the whole token")
    body = text[len(JOIN_PREFIX) :]
    try:
        raw = json.loads(base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise BadInput("the join token is damaged or cut off", next_step="copy the whole token") from error
    if not isinstance(raw, dict) or not all(isinstance(raw.get(k), str) for k in ("id", "secret", "tenant", "ca")):
        raise BadInput("the join token lacks a field", next_step="copy the whole token")
    token = JoinToken(raw["id"], raw["secret"], raw["tenant"], raw["ca"])
    if not (_ID.fullmatch(token.id) and _SECRET.fullmatch(token.secret) and _HEX.fullmatch(token.ca)):
        raise BadInput("the join token is malformed", next_step="copy the whole token")
    return token


def make_api_token() -> tuple[str, str, str]:
    """Return (id, secret, text) of a fresh API token; only the text is shown, once."""
    token_id, secret = new_id("tok"), new_secret()
    return token_id, secret, f"{API_PREFIX}{token_id}.{secret}"


def parse_api_token(text: str) -> tuple[str, str]:
    """Return (id, secret) of an API token.

    Raises:
        BadInput: it is none.
    """
    token_id, _, secret = text.removeprefix(API_PREFIX).partition(".")
    if not text.startswith(API_PREFIX) or not _ID.fullmatch(token_id) or not _SECRET.fullmatch(secret):
        raise BadInput(f"an API token reads {API_PREFIX}<id>.<secret>")
    return token_id, secret


def secret_sha256(secret: str) -> str:
    """Return what is kept of ``secret``."""
    return hashlib.sha256(secret.encode()).hexdigest()


def secret_matches(secret: str, kept_sha256: str) -> bool:
    """Say whether ``secret`` is the one ``kept_sha256`` was made of."""
    return hmac.compare_digest(secret_sha256(secret), kept_sha256)
