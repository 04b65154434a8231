"""``hansa capacity``: is the pool large enough, and how many GPUs a target takes.

With rates given it reckons here; else the coordinator answers for its real queue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from common.cli.options import remember
from common.cli.output import Column, Output
from common.cli.session import session
from coordinator.capacity.outlook import Target
from coordinator.commands.policies import Json

_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def _connection(ctx: click.Context, parameter: click.Parameter, value: object) -> object:
    remember(ctx, parameter, value)
    return value


Url = Annotated[str | None, typer.Option("--url", help="Coordinator, https://host:port.", callback=_connection)]
Token = Annotated[str | None, typer.Option("--token", help="API token.", callback=_connection)]
Ca = Annotated[Path | None, typer.Option("--ca", help="PEM file of the coordinator's CA.", callback=_connection)]
Wait = Annotated[str, typer.Option("--wait", metavar="TIME", help="The longest wait that is good enough: 60s, 10m.")]
Share = Annotated[float, typer.Option("--share", min=0, max=0.9999, help="Of the rounds, that may not wait longer.")]
Gpus = Annotated[int | None, typer.Option("--gpus", min=1, help="Of the pool. [those of the nodes that are there]")]
Gang = Annotated[int | None, typer.Option("--gang", min=1, help="GPUs that a round holds at once. [measured; 1]")]
Arrivals = Annotated[str | None, typer.Option("--arrivals", metavar="N/TIME", help="Rounds: 12/h, 0.5/s. [measured]")]
Service = Annotated[str | None, typer.Option("--service", metavar="TIME", help="Mean length of a round. [measured]")]
Ca2 = Annotated[float | None, typer.Option("--ca2", min=0, help="Variation of gaps; 1 = Poisson. [measured; 1]")]
Cs2 = Annotated[float | None, typer.Option("--cs2", min=0, help="Variation of lengths; 0 = equal. [measured; 1]")]
Window = Annotated[str, typer.Option("--window", metavar="TIME", help="How far back to measure.")]
Cpu = Annotated[bool, typer.Option("--cpu", help="Of rounds that need no GPU: places are tasks at once.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the simulated queue.")]


def capacity(
    wait: Wait = "60s",
    share: Share = 0.95,
    gpus: Gpus = None,
    gang: Gang = None,
    arrivals: Arrivals = None,
    service: Service = None,
    ca2: Ca2 = None,
    cs2: Cs2 = None,
    window: Window = "7d",
    cpu: Cpu = False,
    seed: Seed = 0,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Say how long rounds wait on a pool, by formula and simulated, and how many GPUs a longest wait takes.

    With --arrivals, --service and --gpus it reckons on this machine; else the coordinator fills in what its own queue
    was seen to do (platform admins only).
    """
    del url, token, ca  # remembered by their callbacks
    now = session()
    question: dict[str, Any] = {
        "arrivals_per_s": _rate(arrivals), "service_s": None if service is None else _time(service, "--service"),
        "gpus": gpus, "gang": gang, "ca2": ca2, "cs2": cs2, "wait_s": _time(wait, "--wait"), "share": share,
        "window_s": _time(window, "--window"), "accelerators": not cpu, "seed": seed,
    }  # fmt: skip
    if arrivals and service and gpus:
        plan: Mapping[str, Any] = _here(question)
    else:
        plan = now.client.capacity(**{k: None if v is None else str(v).lower() for k, v in question.items()})
    if as_json:
        now.out.json(dict(plan))
    else:
        _show(plan, now.out)


def _here(question: Mapping[str, Any]) -> Mapping[str, Any]:
    # The service's own words, so that both ways answer alike; it costs imports that --help need not wait for.
    from coordinator.services.capacity import Question, answer

    return answer(
        Question(
            Target(question["wait_s"], question["share"]), question["window_s"], question["accelerators"],
            question["gpus"], question["gang"], question["arrivals_per_s"], question["service_s"], question["ca2"],
            question["cs2"], question["seed"],
        ),
        None,
    )  # fmt: skip


def _time(text: str, flag: str) -> float:
    """Return seconds."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    if not found or (found[2] or "s") not in _SECONDS:
        raise typer.BadParameter(f"{text!r} is no time such as 90s, 10m, 2h or 7d", param_hint=flag)
    return float(found[1]) * _SECONDS[found[2] or "s"]


def _rate(text: str | None) -> float | None:
    """Return a number a second."""
    if text is None:
        return None
    count, _, per = text.partition("/")
    try:
        return float(count) / (_time(f"1{per}", "--arrivals") if per else 1.0)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no rate such as 12/h or 0.5/s", param_hint="--arrivals") from None


def _show(plan: Mapping[str, Any], out: Output) -> None:
    demand, target = plan["demand"], plan["target"]
    columns: list[Column] = [
        ("rounds", lambda _: f"{demand['arrivals_per_s'] * 3600:.4g} an hour, {demand['service_s']:.4g} s each"),
        ("vary", lambda _: f"gaps {demand['ca2']:.3g}, lengths {demand['cs2']:.3g} (1 = exponential)"),
        ("load", lambda _: f"{demand['load']:.4g} gangs of {demand['gang']} at once"),
        ("pool", lambda _: f"{plan['gpus']} places hold {plan['servers']} such gangs"),
        ("observed", lambda _: _observed(plan["observed"])),
        ("too small", lambda _: plan["only_grows"]),
    ]
    out.record(plan, [column for column in columns if column[1](plan)])
    ways = (("M/M/c", "mmc"), ("Allen-Cunneen", "allen_cunneen"), ("simulated", "simulated"))
    rows = [{"way": name, **_waits(plan[key]), "needs": target[f"gpus_{key}"]} for name, key in ways]
    out.text("")
    out.table(
        ["WAY", "WAITS AT ALL", "WAITING", "MEAN WAIT", "P50", "P90", "P95", "P99", f"GPUS FOR {_wish(target)}"],
        [[str(value or "-") for value in row.values()] for row in rows],
    )  # fmt: skip


def _waits(found: Mapping[str, Any] | None) -> dict[str, str]:
    if found is None:
        return dict.fromkeys(("p_wait", "lq", "wq", "p50", "p90", "p95", "p99"), "")
    error = f" ± {found['wq_error_s']:.2g}" if "wq_error_s" in found else ""
    return {
        "p_wait": f"{found['p_wait']:.1%}",
        "lq": f"{found['lq']:.3g}" if "lq" in found else "",
        "wq": f"{found['wq_s']:.4g} s{error}",
        **{name: f"{seconds:.4g} s" for name, seconds in found["waits_s"].items()},
    }


def _observed(seen: Mapping[str, Any] | None) -> str:
    if seen is None:
        return ""
    words = f"{seen['rounds']} rounds in {seen['window_s'] / 86_400:.3g} days"
    if seen["p_wait"] is not None:
        words += f"; {seen['p_wait']:.1%} waited, {seen['mean_wait_s']:.3g} s on average"
    return words


def _wish(target: Mapping[str, Any]) -> str:
    return f"P{target['share'] * 100:g} ≤ {target['wait_s']:g} S"
