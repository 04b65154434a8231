"""Who masks with whom: every pair up to 32 nodes, above that a k-regular graph.

Degree and threshold are functions of the cohort's size alone, so nobody can bargain them down.  They are chosen so
that, with up to a fifth of the nodes in league with the coordinator and up to 30 % dropping out,

* privacy: no node has ``threshold`` or more neighbours in league, and the honest survivors stay connected
  (each fails with probability under 2^-40);
* correctness: every node keeps ``threshold`` neighbours that answer (fails with probability under 2^-30).

Source: Bell et al. 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from math import comb, floor, log2

FULL_UP_TO = 32  # nodes
IN_LEAGUE = 0.2
DROPPING = 0.3
_PRIVATE, _CORRECT = 2.0**-40, 2.0**-30
QUORUM = 0.6  # of the cohort must have signed the same survivors: more than half of it and of those in league


@lru_cache(maxsize=256)
def degree_and_threshold(nodes: int, dropping: float = DROPPING) -> tuple[int, int]:
    """Return (neighbours of each node, shares that open a node's secret); a node holds a share of its own too.

    Args:
        nodes: Size of the cohort.
        dropping: Fraction that may drop out.
    """
    full = (nodes - 1, nodes // 2 + 1)
    if nodes <= FULL_UP_TO:
        return full
    league, lost = floor(IN_LEAGUE * nodes), floor(dropping * nodes)
    for degree in range(2, nodes - 1, 2):
        threshold = _private_threshold(nodes, league, degree)
        apart = 2 * log2(nodes) + degree * log2(IN_LEAGUE + dropping)
        if threshold > degree or apart > log2(_PRIVATE):
            continue
        if nodes * _between(nodes - 1, nodes - lost - 1, degree, 0, threshold - 1) < _CORRECT:
            return degree, threshold
    return full


def quorum(nodes: int) -> int:
    """Return how many of a cohort must have signed one list of survivors before anybody answers it."""
    return max(2, -int(-QUORUM * nodes // 1))


def neighbours(order: Sequence[str], seed: bytes) -> dict[str, tuple[str, ...]]:
    """Return each node's neighbours: a circulant graph over an order that ``seed`` shuffles.

    Args:
        order: The cohort, each node once.
        seed: Digest of the roster, which nobody chooses alone.
    """
    ring = sorted(order, key=lambda node: hashlib.sha256(seed + node.encode()).digest())
    degree, _ = degree_and_threshold(len(ring))
    if degree >= len(ring) - 1:
        return {node: tuple(sorted(other for other in ring if other != node)) for node in ring}
    steps = [step for half in range(1, degree // 2 + 1) for step in (half, -half)]
    return {node: tuple(sorted(ring[(at + step) % len(ring)] for step in steps)) for at, node in enumerate(ring)}


def _private_threshold(nodes: int, league: int, degree: int) -> int:
    for threshold in range(2, degree + 1):
        if nodes * _between(nodes - 1, league, degree, threshold, degree) < _PRIVATE:
            return threshold
    return degree + 1


def _between(total: int, marked: int, drawn: int, low: int, high: int) -> float:
    """Return the chance that ``low`` to ``high`` of ``drawn`` out of ``total`` are among the ``marked``."""
    fewest, most = max(low, drawn - (total - marked)), min(high, marked, drawn)
    ways = sum(comb(marked, hits) * comb(total - marked, drawn - hits) for hits in range(fewest, most + 1))
    return ways / comb(total, drawn)
