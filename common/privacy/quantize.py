"""From values to integers whose sum cannot wrap, and back.

A node's part of the mean of a float tensor is ``change * weight``, where ``change`` is its value less the value it was
sent.  It is scaled so that ``nodes`` such parts fit the ring, and rounded up or down at random with the chance that
makes the expectation exact.  The random bits come from a keystream, so the same update is always rounded the same way.

Guarantee: for parts within range, ``decode(sum of encode)`` is off by less than ``nodes * step`` and by nothing on
average, ``step = 2^-scale_bits * 2^weight_bits / total weight``.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, frexp, isfinite
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from common.errors import BadUpdate

PIECE = 1 << 16  # elements at a time
WEIGHT_UNIT = 1 << 20  # a sample count is summed as a multiple of 2^-20
_METRIC_UNIT = 1 << 64
_METRIC_LIMIT = 2.0**60  # beyond it, as for NaN, only the fact is summed
_GRAIN = 4  # bits: ranges and weights are told no finer than this
_FITS = 0.99  # of the range: random rounding may add one
_DRAWS = np.float64(2.0**-16)


@dataclass(frozen=True)
class Encoding:
    """How the parts of one attempt become integers."""

    ring: int  # bits
    nodes: int
    range_bits: int
    weight_bits: int

    @property
    def scale_bits(self) -> int:
        """Power of two that a weighted change is multiplied with."""
        return self.ring - 1 - (self.nodes - 1).bit_length() - self.range_bits

    def factor(self, weight: float) -> float:
        """Return what a node's changes are multiplied with."""
        return weight * 2.0 ** (self.scale_bits - self.weight_bits)

    def unit(self, total: float) -> float:
        """Return what a sum of integers is multiplied with to give the mean change."""
        return 2.0 ** (self.weight_bits - self.scale_bits) / total


def fitting_range(largest: float, asked: int) -> int:
    """Return the range's bits to advertise: the asked ones, or as many more as the largest change needs."""
    return _fitting(largest / _FITS, asked)


def fitting_weight(weight: float, asked: int) -> int:
    """Return the weight's bits to advertise: the asked ones, or as many more as the sample count needs."""
    return _fitting(weight, asked)


def _fitting(value: float, asked: int) -> int:
    if not isfinite(value):
        raise BadUpdate("a value that is not finite has no range")
    mantissa, exponent = frexp(value)
    needed = exponent - (mantissa == 0.5)  # 2^needed >= value
    return asked if value == 0 or needed <= asked else asked + _GRAIN * ceil((needed - asked) / _GRAIN)


class Rounding:
    """Changes to integers, piece by piece, with the random bits of one keystream.

    Args:
        encoding: The attempt's.
        weight: The node's sample count.
        key: 16 bytes that the coordinator does not know.
    """

    def __init__(self, encoding: Encoding, weight: float, key: bytes) -> None:
        self._factor = np.float64(encoding.factor(weight))
        self._stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        self._draws = bytearray(2 * PIECE)
        self._zeros = memoryview(bytes(2 * PIECE))
        self._change = np.empty(PIECE, dtype=np.float64)
        self._chance = np.empty(PIECE, dtype=np.float64)

    def encode(self, values: NDArray[Any], base: NDArray[Any] | None, out: NDArray[Any]) -> None:
        """Write the integers of a piece of at most ``PIECE`` values to ``out`` (unsigned, of the ring's width)."""
        count = values.size
        change, chance = self._change[:count], self._chance[:count]
        if base is None:
            np.multiply(values, self._factor, out=change)
        else:
            np.subtract(values, base, out=change, dtype=np.float64)
            np.multiply(change, self._factor, out=change)
        self._stream.update_into(self._zeros[: 2 * count], memoryview(self._draws)[: 2 * count])
        np.multiply(np.frombuffer(self._draws, dtype="<u2", count=count), _DRAWS, out=chance)
        np.add(change, chance, out=change)
        np.floor(change, out=change)
        out.view(np.dtype(f"i{out.itemsize}"))[:] = change


def decode(total: NDArray[Any], encoding: Encoding, weight: float) -> NDArray[np.float64]:
    """Return the mean change that a sum of integers (unsigned, modulo the ring) stands for."""
    signed = total.view(np.dtype(f"i{total.itemsize}"))
    mean: NDArray[np.float64] = np.multiply(signed, np.float64(encoding.unit(weight)), dtype=np.float64)
    return mean


def weight_units(weight: float) -> int:
    """Return a sample count as a whole number of units; exact for whole counts."""
    return round(Fraction(weight) * WEIGHT_UNIT)


def metric_lanes(value: float, units: int) -> tuple[int, int]:
    """Return the two lanes of one metric value of a node with ``units`` of weight."""
    if not isfinite(value) or abs(value) >= _METRIC_LIMIT:
        return 0, 1
    return round(Fraction(value) * units * _METRIC_UNIT), 0


def mean_metric(lanes: tuple[int, int], units: int) -> float:
    """Return the weighted mean that summed lanes stand for; NaN if any node's value was not finite."""
    total, bad = lanes
    return float("nan") if bad else float(Fraction(total, units * _METRIC_UNIT))


def mean_whole(total: int, units: int) -> int:
    """Return the weighted mean of an integer element, rounded half to even."""
    return round(Fraction(total, units))
