"""Which nodes an ask gets, down to the slices of their devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from common.ids import TenantId
from coordinator.scheduling.pool import Pool
from coordinator.scheduling.reach import Fit
from coordinator.scheduling.records import WHOLE, Ask, Lease, Slice
from coordinator.scheduling.reserve import Kept
from coordinator.scheduling.stock import Ints


def within(pool: Pool, rows: Ints, rooms: Mapping[TenantId, int], default: int, most: int) -> list[int]:
    """Return the first ``most`` of ``rows`` that leave no site with more tasks than it has room for."""
    if not rooms and default >= most:
        return [int(row) for row in rows[:most]]
    left = np.full(len(pool.site_names), default, np.int64)
    for site, room in rooms.items():
        left[pool.sites[site]] = room
    rows = rows[left[pool.site[rows]] > 0]
    chosen: list[int] = []
    for row, site in zip(rows.tolist(), pool.site[rows].tolist(), strict=True):
        if len(chosen) == most:
            break
        if left[site] > 0:
            left[site] -= 1
            chosen.append(row)
    return chosen


def leases(
    pool: Pool, fit: Fit, ask: Ask, rows: Sequence[int], now_ms: int, kept: Kept,
    guaranteed: Mapping[TenantId, int],
) -> list[Lease]:  # fmt: skip
    """Return a lease on each of ``rows``; what is beyond ``guaranteed`` tasks at a site is borrowed."""
    until_ms = now_ms + ask.bound_ms
    stock = pool.free.at(np.array(rows))
    for reservation in kept.outlasted(np.array(rows), until_ms):
        stock.cap(np.array(rows), reservation.rows, reservation.beyond)
    columns, mib = stock.choose(ask.need, fit.kind)
    each, taken, result = min(ask.need.milli, WHOLE), Counter[TenantId](), []
    for row, its_columns, its_mib in zip(rows, columns.tolist(), mib.tolist(), strict=True):
        node = pool.nodes[row]
        assert node is not None  # noqa: S101  (it has room)
        taken[node.site] += 1
        slices = tuple(Slice(pool.devices[row][c], each, m) for c, m in zip(its_columns, its_mib, strict=True))
        result.append(
            Lease(
                ask.id, ask.job, ask.tenant, node.id, node.site, ask.need, slices, now_ms, until_ms,
                min(ask.est_ms, ask.bound_ms) or ask.bound_ms, taken[node.site] > guaranteed.get(node.site, 0),
            )
        )  # fmt: skip
    return result
