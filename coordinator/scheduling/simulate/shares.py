"""Who held what, when: the changes of a history as curves, and the two measures of fairness read off them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from coordinator.scheduling.simulate.engine import History

Whole = NDArray[np.int64]
Real = NDArray[np.float64]
MOST_COMPARED = 24  # tenants; the largest ones


@dataclass(frozen=True)
class Curves:
    """A history as step functions over the moments at which something changed.

    One tenant's curve is made when it is asked for: tenants times moments may be more than memory holds.

    Args:
        at_ms: The moments, each once, rising; shape (e,).
        column: Of each change its moment, shape (changes,).
        tenant: Of each change its tenant.
        held_milli: Of each change by how much more is held.
        waiting: By how many more asks wait.
        granted: How many milli-GPU milliseconds were granted, with the true length of the leases.
    """

    at_ms: Whole
    column: Whole
    tenant: Whole
    held_milli: Whole
    waiting: Whole
    granted: Whole

    @staticmethod
    def of(history: History) -> Curves:
        """Return the curves of ``history``."""
        moments, column = np.unique(np.array(history.at_ms, np.int64), return_inverse=True)
        changes = (history.tenant, history.held_milli, history.waiting, history.granted)
        return Curves(moments, column, *(np.array(values, np.int64) for values in changes))

    def running(self, changes: Whole, tenant: int | None = None) -> Whole:
        """Return the sum of ``changes`` up to and with each moment, of one tenant or of all; shape (e,)."""
        table = np.zeros(len(self.at_ms), np.int64)
        mine = slice(None) if tenant is None else self.tenant == tenant
        np.add.at(table, self.column[mine], changes[mine])
        return np.cumsum(table, out=table)

    def served(self, tenant: int, edges_ms: Real) -> Real:
        """Return the milli-GPU milliseconds that a tenant held between neighbours of ``edges_ms``."""
        whole = np.zeros(len(self.at_ms))
        np.cumsum(self.running(self.held_milli, tenant)[:-1] * np.diff(self.at_ms).astype(float), out=whole[1:])
        return np.diff(np.interp(edges_ms, self.at_ms, whole))

    def idle_ms(self, gpus: int, *, backlog: bool) -> tuple[float, float]:
        """Return (idle, whole) in milli-GPU milliseconds; with ``backlog`` only of the time in which an ask waits."""
        steps = np.diff(self.at_ms).astype(float)
        free = gpus * 1000 - self.running(self.held_milli)[:-1]
        counted = self.running(self.waiting)[:-1] > 0 if backlog else np.ones(len(steps), bool)
        return float((free * steps)[counted].sum()), float(gpus * 1000 * steps[counted].sum())


def fairness_gap(curves: Curves, weights: Real, quantum: float) -> float | None:
    """Return the largest |S_i/w_i - S_j/w_j| that built up while both tenants had work waiting, in quanta.

    Only time in which both always had an ask waiting counts, from its start: who has nothing to run is owed nothing.
    None: no two tenants ever waited at one time.

    Args:
        curves: Of the run.
        weights: Of the tenants, in their order.
        quantum: The largest single grant, milli-GPU milliseconds, over its tenant's weight.
    """
    used = np.bincount(curves.tenant, curves.granted.astype(float), minlength=len(weights))
    largest = sorted(np.argsort(-used, kind="stable")[:MOST_COMPARED].tolist())
    waits = {i: curves.running(curves.waiting, i) > 0 for i in largest}
    service = {i: curves.running(curves.granted, i) / weights[i] for i in largest}
    gap: float | None = None
    for i, j in combinations(largest, 2):
        both = np.concatenate(([False], waits[i] & waits[j], [False]))
        edges = np.flatnonzero(np.diff(both.astype(np.int8)))
        if not len(edges):
            continue
        ahead = service[i] - service[j]
        ahead = np.append(ahead, ahead[-1])  # reduceat wants every index inside
        spread = np.maximum.reduceat(ahead, edges)[::2] - np.minimum.reduceat(ahead, edges)[::2]
        gap = max(gap or 0.0, float(spread.max()) / quantum)
    return gap
