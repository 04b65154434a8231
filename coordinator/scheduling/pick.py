"""Which nodes an ask gets, down to the slices of their devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from common.ids import TenantId
from coordinator.scheduling.pool import Pool
from coordinator.scheduling.reach import Fit
from coordinator.scheduling.records import WHOLE, Ask, Lease, Slice
from coordinator.scheduling.reserve import Kept, Reservation
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
        left = [rooms.other] * len(pool.site_names)
        for site, room in rooms.named.items():
            left[pool.sites[site]] = room
    found: list[Picked] = []
    for batch, later in _batches(pool, fit, rows, kept, until_ms, left, n):
        if later:
            stock = pool.free.at(batch)
            for reservation in later:
                stock.cap(batch, reservation.rows, reservation.beyond)
            places = np.flatnonzero(stock.fits(fit.task))
            places = places[_within(pool.site[batch[places]], left, n)]
            batch, stock = batch[places], stock.at(places)
        else:
            batch = batch[_within(pool.site[batch], left, n)]
            stock = pool.free.at(batch)
        if batch.size:
            found.append(Picked(batch, *stock.choose(fit.task)))
            n -= len(batch)
        if not n:
            break
    if len(found) > 1:
        return Picked(*(np.concatenate([getattr(f, name) for f in found]) for name in ("rows", "columns", "mib")))
    return found[0] if found else None


def leases(pool: Pool, ask: Ask, picked: Picked, now_ms: int, guaranteed: Mapping[TenantId, int]) -> list[Lease]:
    """Return a lease on each of the rows; what is beyond ``guaranteed`` tasks at a site is borrowed."""
    until_ms, est_ms = now_ms + ask.bound_ms, min(ask.est_ms, ask.bound_ms) or ask.bound_ms
    each, taken, result = min(ask.need.milli, WHOLE), dict(guaranteed), []
    ask_id, job, tenant, need = ask.id, ask.job, ask.tenant, ask.need
    for row, columns, mib in zip(picked.rows.tolist(), picked.columns.tolist(), picked.mib.tolist(), strict=True):
        node, devices = pool.nodes[row], pool.devices[row]
        assert node is not None  # noqa: S101  (it has room)
        site = node.site
        left = taken[site] = taken.get(site, 0) - 1
        slices = tuple([Slice(devices[column], each, its) for column, its in zip(columns, mib, strict=True)])
        result.append(Lease(ask_id, job, tenant, node.id, site, need, slices, now_ms, until_ms, est_ms, left < 0))
    return result


def _batches(
    pool: Pool, fit: Fit, rows: Ints, kept: Kept, until_ms: int, left: list[int] | None, n: int
) -> Iterator[tuple[Ints, list[Reservation]]]:
    """Yield the rows that may do, with the reservations to look at, going no further than it is asked to."""
    start, width = 0, 4 * n + 16
    while start < len(rows):
        window = kept.likely(fit, rows[start : start + width], until_ms)
        if left is not None and min(left) <= 0:
            window = window[np.array(left)[pool.site[window]] > 0]
        if not kept.outlasted(window, until_ms):
            yield window, []
        else:
            for first in range(0, len(window), n):
                batch = window[first : first + n]
                yield batch, kept.outlasted(batch, until_ms)
        start, width = start + width, 8 * width


def _within(sites: Ints, left: list[int] | None, most: int) -> slice | list[int]:
    """Return the places of the first ``most`` of ``sites`` that have a task left, and count them down."""
    if left is None:
        return slice(most)
    chosen: list[int] = []
    for place, site in enumerate(sites.tolist()):
        if len(chosen) == most:
            break
        if left[site] > 0:
            left[site] -= 1
            chosen.append(place)
    return chosen
