"""Which nodes an ask gets, down to the slices of their devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from common.ids import TenantId
from coordinator.scheduling.pool import Pool
from coordinator.scheduling.reach import Fit
from coordinator.scheduling.records import WHOLE, Ask, Lease, Slice
from coordinator.scheduling.reserve import Kept
from coordinator.scheduling.stock import Ints


@dataclass(frozen=True, slots=True)
class Rooms:
    """Tasks that a tenant may have, by site, and at a site that is not named."""

    named: Mapping[TenantId, int]
    other: int


@dataclass(frozen=True, slots=True)
class Picked:
    """Rows, and the columns and MiB of the devices to take on each."""

    rows: Ints
    columns: Ints
    mib: Ints


def pick(pool: Pool, fit: Fit, rows: Ints, kept: Kept, until_ms: int, rooms: Rooms, n: int) -> Picked | None:
    """Return up to ``n`` of ``rows``: the first with room until ``until_ms`` that are within ``rooms``; None = none."""
    left = None
    if rooms.named or rooms.other < n:
        left = np.full(len(pool.site_names), rooms.other, np.int64)
        left[[pool.sites[site] for site in rooms.named]] = list(rooms.named.values())
    found: list[Picked] = []
    for batch in _batches(pool, fit, rows, kept, until_ms, left, n):
        stock, chosen = pool.free.at(batch), np.arange(len(batch))
        if later := kept.outlasted(batch, until_ms):
            for reservation in later:
                stock.cap(batch, reservation.rows, reservation.beyond)
            chosen = np.flatnonzero(stock.fits(fit.task))
        chosen = _within(chosen, pool.site[batch], left, n)
        if chosen.size:
            stock = stock if len(chosen) == len(batch) else stock.at(chosen)
            found.append(Picked(batch[chosen], *stock.choose(fit.task)))
            n -= len(chosen)
        if not n:
            break
    if len(found) > 1:
        return Picked(*(np.concatenate([getattr(f, name) for f in found]) for name in ("rows", "columns", "mib")))
    return found[0] if found else None


def leases(pool: Pool, ask: Ask, picked: Picked, now_ms: int, guaranteed: Mapping[TenantId, int]) -> list[Lease]:
    """Return a lease on each of the rows; what is beyond ``guaranteed`` tasks at a site is borrowed."""
    until_ms, est_ms = now_ms + ask.bound_ms, min(ask.est_ms, ask.bound_ms) or ask.bound_ms
    each, taken, result = min(ask.need.milli, WHOLE), dict(guaranteed), []
    for row, columns, mib in zip(picked.rows.tolist(), picked.columns.tolist(), picked.mib.tolist(), strict=True):
        node, devices = pool.nodes[row], pool.devices[row]
        assert node is not None  # noqa: S101  (it has room)
        left = taken[node.site] = taken.get(node.site, 0) - 1
        slices = tuple(Slice(devices[column], each, its) for column, its in zip(columns, mib, strict=True))
        result.append(
            Lease(
                ask.id, ask.job, ask.tenant, node.id, node.site, ask.need, slices, now_ms, until_ms, est_ms, left < 0
            )
        )  # fmt: skip
    return result


def _batches(pool: Pool, fit: Fit, rows: Ints, kept: Kept, until_ms: int, left: Ints | None, n: int) -> Iterator[Ints]:
    """Yield the rows that may do, a few at a time, looking no further than it is asked to."""
    start, width = 0, 4 * n + 16
    while start < len(rows):
        window = kept.likely(fit, rows[start : start + width], until_ms)
        if left is not None:
            window = window[left[pool.site[window]] > 0]
        for first in range(0, len(window), n):
            yield window[first : first + n]
        start, width = start + width, 8 * width


def _within(places: Ints, sites: Ints, left: Ints | None, most: int) -> Ints:
    """Return the first ``most`` of ``places`` whose sites have a task left, and count them down."""
    if left is None:
        return places[:most]
    chosen: list[int] = []
    for place in places.tolist():
        if len(chosen) == most:
            break
        if left[sites[place]] > 0:
            left[sites[place]] -= 1
            chosen.append(place)
    return np.array(chosen, np.int64)
