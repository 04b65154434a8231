"""Whole numbers of 192 bits, added modulo 2^192: sample counts, metrics and integer tensors, whose sums must be exact.

A vector of them is an array of shape (n, 3), dtype uint64, lowest limb first.  Negative numbers are complements.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from common.crypto.masks import keystream

LIMBS = 3
BYTES = 8 * LIMBS
_MODULUS = 1 << (8 * BYTES)
Wide = NDArray[np.uint64]


def from_ints(values: Iterable[int]) -> Wide:
    """Return ``values`` modulo 2^192."""
    data = b"".join((value % _MODULUS).to_bytes(BYTES, "little") for value in values)
    return np.frombuffer(data, dtype="<u8").reshape(-1, LIMBS).copy()


def to_ints(wide: Wide) -> list[int]:
    """Return the numbers from -2^191 up to 2^191."""
    data, half = np.ascontiguousarray(wide, dtype="<u8").tobytes(), _MODULUS >> 1
    values = (int.from_bytes(data[at : at + BYTES], "little") for at in range(0, len(data), BYTES))
    return [value - _MODULUS if value >= half else value for value in values]


def add(left: Wide, right: Wide) -> Wide:
    """Return the sums."""
    total = np.empty_like(left)
    carry = np.zeros(len(left), dtype=np.uint64)
    for limb in range(LIMBS):
        partial = left[:, limb] + right[:, limb]
        total[:, limb] = partial + carry
        carry = ((partial < left[:, limb]) | (total[:, limb] < partial)).astype(np.uint64)
    return total


def negative(wide: Wide) -> Wide:
    """Return the numbers' complements."""
    one = np.zeros_like(wide)
    one[:, 0] = 1
    return add(~wide, one)


def masked(wide: Wide, plus: Iterable[bytes], minus: Iterable[bytes]) -> Wide:
    """Return the numbers with masks added and subtracted; a mask's seed is a 16-byte AES key."""
    for seed in plus:
        wide = add(wide, _noise(seed, wide))
    for seed in minus:
        wide = add(wide, negative(_noise(seed, wide)))
    return wide


def _noise(key: bytes, like: Wide) -> Wide:
    return np.frombuffer(keystream(key, like.nbytes), dtype="<u8").reshape(like.shape)
