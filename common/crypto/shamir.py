"""Shamir's secret sharing over a prime field just above 2^256.

``split`` hides a 256-bit secret in a random polynomial of degree ``threshold - 1``; holder number x (from 1) gets its
value at x.  Fewer than ``threshold`` values say nothing of the secret.

Source: Shamir 1979, "How to share a secret".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from common.errors import BadInput

PRIME = 2**256 + 297  # the smallest prime over 2^256, so that every 32-byte string is a secret
SECRET_BYTES = 32
SHARE_BYTES = 33
_DRAW_BYTES = 48  # reduced mod PRIME: the bias is under 2^-127


def split(secret: bytes, holders: int, threshold: int, draw: Callable[[int], bytes]) -> tuple[bytes, ...]:
    """Return one share for each of ``holders``, in the order of their numbers 1, 2, ….

    Args:
        secret: 32 bytes.
        holders: How many shares to make.
        threshold: How many of them give the secret back, from 1 to ``holders``.
        draw: Returns so many unpredictable bytes.

    Raises:
        BadInput: the numbers do not fit.
    """
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= holders:
        raise BadInput(f"{len(secret)} bytes cannot be shared among {holders} holders with threshold {threshold}")
    polynomial = [int.from_bytes(secret, "little")]
    polynomial += [int.from_bytes(draw(_DRAW_BYTES), "little") % PRIME for _ in range(threshold - 1)]
    return tuple(_at(polynomial, x).to_bytes(SHARE_BYTES, "little") for x in range(1, holders + 1))


def weights_at_zero(holders: Sequence[int]) -> tuple[int, ...]:
    """Return the Lagrange weights with which the shares of these holders sum to the secret; good for many secrets.

    Raises:
        BadInput: a number is given twice, or is none.
    """
    if len(set(holders)) != len(holders) or not all(0 < x < PRIME for x in holders):
        raise BadInput("share holders must be distinct and numbered from 1")
    weights = []
    for x in holders:
        above, below = 1, 1
        for other in holders:
            if other != x:
                above = above * other % PRIME
                below = below * (other - x) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)


def combine(shares: Mapping[int, bytes], weights: Sequence[int] | None = None) -> bytes:
    """Return the secret that the shares (by holder's number) give; wrong or too few shares give some other value.

    Args:
        shares: Exactly as many as to be used, at least the threshold.
        weights: ``weights_at_zero(tuple(shares))``, if it is at hand.

    Raises:
        BadInput: a share is malformed, or what they give is no 32-byte secret.
    """
    factors = weights_at_zero(tuple(shares)) if weights is None else weights
    total = 0
    for share, factor in zip(shares.values(), factors, strict=True):
        value = int.from_bytes(share, "little")
        if len(share) != SHARE_BYTES or value >= PRIME:
            raise BadInput("a share is no element of the field")
        total = (total + value * factor) % PRIME
    if total >= 1 << (8 * SECRET_BYTES):
        raise BadInput("these shares give no secret")
    return total.to_bytes(SECRET_BYTES, "little")


def _at(polynomial: Sequence[int], x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * x + coefficient) % PRIME
    return value
