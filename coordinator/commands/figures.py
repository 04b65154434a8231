"""The figures of a simulated run, as people read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from common.cli.output import Column, Output, field

Row = Mapping[str, Any]
Get = Callable[[Row], object]


def show(record: Row, out: Output) -> None:
    """Print a run: its figures, then a row for each tenant."""
    out.record(
        record,
        [
            ("policy", lambda row: f"{row['policy']} (k {row['k']:g}), {row['sizes']} sizes"),
            ("pool", lambda row: f"{row['gpus']} GPUs, rounds of {row['round_s']:g} s"),
            ("jobs", _jobs),
            *_times("p50"),
            ("idle", _share("idle_share")),
            ("idle while an ask waits", _share("idle_share_backlog")),
            ("fairness gap, quanta", field("fairness_gap_quanta")),
            ("decisions", field("decisions")),
        ],
    )
    out.text("")
    tenants: list[Row] = record["tenants"]
    out.rows(
        tenants,
        [
            ("TENANT", field("tenant")),
            ("WEIGHT", field("weight")),
            ("JOBS", field("jobs")),
            ("GPU HOURS", lambda row: f"{row['gpu_hours']:,.1f}"),
            ("SHARE", _share("share")),
            *((name.upper(), get) for name, get in _times()),
        ],
    )


def _times(*more: str) -> list[Column]:
    return [
        ("mean JCT", _seconds("mean_jct_s")),
        *((f"{name} JCT", _seconds(f"{name}_jct_s")) for name in more),
        ("p99 JCT", _seconds("p99_jct_s")),
        ("mean slowdown", field("mean_slowdown")),
        ("p99 slowdown", field("p99_slowdown")),
        ("longest wait", _hours("longest_wait_s")),
    ]


def _jobs(record: Row) -> str:
    left_out = {"larger than the pool": record["never_fits"], **record["skipped"]}
    return ", ".join([f"{record['finished']} ended", *(f"{n} {why}" for why, n in left_out.items() if n)])


def _seconds(name: str) -> Get:
    return lambda row: None if row[name] is None else f"{row[name]:,.0f} s"


def _hours(name: str) -> Get:
    return lambda row: None if row[name] is None else f"{row[name] / 3600:.2f} h"


def _share(name: str) -> Get:
    return lambda row: None if row[name] is None else f"{row[name]:.2%}"
