"""``hansa queue``: who waits why and until when, and why a lease was given."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from common.cli.output import Column, age, ago, cell, field
from common.cli.session import Session, session
from common.client.queue import History, Queue
from common.errors import BadInput

app = typer.Typer(
    invoke_without_command=True, help="Who waits for nodes, why and until when; who holds them; which are idle."
)


@app.callback()
def show(ctx: typer.Context) -> None:
    """Show the scheduler's queue: every waiting round with its reason and forecast, leases, idle nodes."""
    if ctx.invoked_subcommand is not None:
        return
    now = session()
    found = now.client.schedule.queue()
    if now.out.as_json:
        now.out.json(found)
        return
    _show(now, found)


@app.command()
def why(name: Annotated[str, typer.Argument(metavar="ASK|LEASE", help="JOB/N, or a lease's id.")]) -> None:
    """Show why a round waits, or why it was granted what it has: the decision is made again from the journal."""
    if re.match(r"job_[0-9a-z]+/[0-9]", name) is None:
        raise BadInput(f"{name[:60]!r} is no round", next_step="give JOB/N as in hansa queue, or a lease's id")
    now = session()
    found = now.client.schedule.history(name)
    if now.out.as_json:
        now.out.json(found)
        return
    _tell(now, found)


def _show(now: Session, found: Queue) -> None:
    policy = found["policy"]
    now.out.say(f"policy {policy['name']}: {policy['promise']}")
    waiting: list[Column] = [
        ("WAITS", field("id")),
        ("TENANT", field("tenant")),
        ("NODES", lambda row: f"{row['minimum']} of {row['maximum']}"),
        ("SINCE", ago("submitted_at", now.now)),
        ("STARTS", lambda row: age(row["forecast_start"], now.now) if row["forecast_start"] else "not foreseen"),
        ("LATEST", lambda row: age(row["latest_start"], now.now) if row["latest_start"] else "-"),
        ("WHY", field("reason")),
    ]
    now.out.rows(found["waiting"], waiting, empty="nothing waits")
    if found["hidden"]:
        now.out.say(f"and {found['hidden']} of tenants you share nothing with")
    leases: list[Column] = [
        ("HOLDS", field("ask")),
        ("TENANT", field("tenant")),
        ("NODE", field("node_name")),
        ("DEVICES", field("devices")),
        ("HELD BY", field("enforcement")),
        ("SINCE", ago("started_at", now.now)),
        ("UNTIL", ago("until", now.now)),
    ]
    if found["leases"]:
        now.out.rows(found["leases"], leases)
    if found["idle"]:
        now.out.rows(found["idle"], [("IDLE", field("name")), ("SITE", field("site")), ("WHY", field("reason"))])


def _tell(now: Session, found: History) -> None:
    ask, wait, proof = found["ask"], found["wait"], found["proof"]
    now.out.text(f"{ask['id']} of {ask['tenant']}: {ask['minimum']} to {ask['maximum']} nodes, all or nothing")
    if wait is not None:
        start = age(wait["forecast_start"], now.now) if wait["forecast_start"] else "not foreseen"
        latest = f", at the latest {age(wait['latest_start'], now.now)}" if wait["latest_start"] else ""
        now.out.text(f"waits: {wait['reason']} ({wait['code']}); start {start}{latest}")
    now.out.rows(found["rows"], [("ROW", field("row")), ("AT", field("at")), ("WHAT", field("words"))])
    if proof is None:
        return
    verdict = "the same state gives the same decision" if proof["holds"] else "THE JOURNAL DOES NOT LEAD TO IT"
    nodes = ", ".join(cell(lease["node_name"]) for lease in proof["granted"])
    now.out.text(f"granted {nodes} at {proof['at']} (row {proof['row']}), {verdict}")
    now.out.text(f"policy {found['policy']['name']}; {proof['waiting']} asks waited, {proof['nodes']} nodes were there")
    if proof["use"]:
        use: list[Column] = [
            ("SITE", field("site")),
            ("TENANT", field("tenant")),
            ("USED", field("used")),
            ("WEIGHT", field("weight")),
        ]
        now.out.rows(proof["use"], use)
    if proof["others"]:
        beside: list[Column] = [("BESIDE", field("ask")), ("TENANT", field("tenant")), ("WHAT", field("outcome"))]
        now.out.rows(proof["others"], beside)
