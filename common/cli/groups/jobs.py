"""``hansa job …``: plan, submit, watch, read, cancel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.cli import failures
from common.cli.output import Column, age, ago, cell, field
from common.cli.resolve import job_id
from common.cli.runconfig import parse_run_config
from common.cli.session import Session, session
from common.cli.watching import Detached, quietly, verdict, watch
from common.client.records import App, Job, Outlook, Plan
from common.errors import BadInput

app = typer.Typer(no_args_is_help=True, help="Training runs: plan, submit, watch, read, cancel.")
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The app's directory.")]
Which = Annotated[str, typer.Argument(metavar="JOB", help="Id or its beginning; the newest if not said.")]
FederationName = Annotated[str, typer.Option("--federation", "-f", help="Which; the only one if not said.")]
TenantName = Annotated[str, typer.Option("--tenant", help="In whose name; needed if the token has several.")]
RunConfig = Annotated[list[str], typer.Option("--run-config", "-c", metavar="K=V", help="Repeat for more.")]
_FIELDS: list[Column] = [
    ("job", field("id")),
    ("app", lambda row: f"{row['app_name']} ({str(row['app'])[:12]})"),
    ("federation", field("federation")),
    ("tenant", field("tenant")),
    ("state", field("state")),
    ("note", field("note")),
    ("reason", field("reason")),
    ("round", lambda row: f"{row['round']}/{row['rounds'] or '?'}"),
    ("metrics", field("metrics")),
    ("nodes", lambda row: [entry["name"] for entry in _entries(row["roster"])]),
    ("waits for", lambda row: [_wait(entry) for entry in _entries(row.get("waits"))]),
    ("model", field("model")),
    ("seed", field("seed")),
    ("submitted by", field("submitted_by")),
    ("created", field("created_at")),
    ("started", field("started_at")),
    ("ended", field("ended_at")),
]


@app.command()
def submit(
    directory: Directory,
    federation: FederationName = "",
    run_config: RunConfig = [],
    tenant: TenantName = "",
    seed: Annotated[int | None, typer.Option(help="Seed of the ServerApp and of every task.")] = None,
    watching: Annotated[bool, typer.Option("--watch", "-w", help="Show progress until it ends.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end without progress.")] = False,
) -> None:
    """Submit an app as a job; its id goes to stdout."""
    now = session()
    chosen, config = federation or _only_federation(now), parse_run_config(run_config)
    sent = _upload(now, directory)
    job = now.client.jobs.submit(chosen, sent["app_digest"], run_config=config, tenant=tenant or None, seed=seed)
    if not (watching or wait):
        _submitted(now, job)
        return
    now.out.say(f"submitted {sent['name']} as {job['id']}")
    raise typer.Exit(_to_the_end(now, job["id"], watching))


@app.command()
def plan(
    directory: Directory,
    federation: FederationName = "",
    run_config: RunConfig = [],
    tenant: TenantName = "",
) -> None:
    """Show where the app could run, when, for how long, and every reason against; exit 7 if it never can."""
    now = session()
    chosen, config = federation or _only_federation(now), parse_run_config(run_config)
    sent = _upload(now, directory)
    found = now.client.jobs.plan(chosen, sent["app_digest"], run_config=config, tenant=tenant or None)
    if now.out.as_json:
        now.out.json({"app_digest": sent["app_digest"], **found})
    else:
        _show_plan(now, found, chosen, sent)
    if not found["placeable"]:
        raise typer.Exit(failures.NEVER)
    now.out.next(f"hansa job submit {directory} --federation {chosen} --watch")


@app.command()
def ls(
    state: Annotated[str, typer.Option(help="Only jobs in this state.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
) -> None:
    """List jobs, newest first."""
    now = session()
    columns: list[Column] = [
        ("JOB", field("id")),
        ("APP", field("app_name")),
        ("FEDERATION", field("federation")),
        ("STATE", field("state")),
        ("ROUND", lambda row: f"{row['round']}/{row['rounds'] or '?'}"),
        ("AGE", ago("created_at", now.now)),
        ("NOTE", field("note")),
    ]
    jobs = now.client.jobs.list(state or None, limit)
    now.out.rows(jobs, columns, empty=_none(state))


@app.command()
def show(job: Which = "") -> None:
    """Show one job."""
    now = session()
    now.out.record(now.client.jobs.get(job_id(now.client, job)), _FIELDS)


@app.command("watch")
def watch_(job: Which = "") -> None:
    """Show a job's progress until it ends; Ctrl-C detaches and leaves it running."""
    now = session()
    raise typer.Exit(_to_the_end(now, job_id(now.client, job), watching=True))


@app.command()
def logs(
    job: Which = "",
    source: Annotated[str, typer.Option(help="server, or a node: its name, or tenant/name.")] = "server",
) -> None:
    """Print what the app printed, at the server or at a node that shares its logs."""
    now = session()
    found = job_id(now.client, job)
    text = now.client.jobs.log(found, source)
    if now.out.as_json:
        now.out.json({"job": found, "source": source, "text": text})
    elif text:
        now.out.text(text.removesuffix("\n"))
    else:
        now.out.say(f"{source} has printed nothing")


@app.command()
def cancel(job: Annotated[str, typer.Argument(metavar="JOB", help="Id or its beginning.")]) -> None:
    """Cancel a job; what its nodes are doing for it ends."""
    now = session()
    ended = now.client.jobs.cancel(job_id(now.client, job))
    if now.out.as_json:
        now.out.json(ended)
    else:
        now.out.say(f"{ended['id']} is {ended['state']}")


@app.command()
def rounds(job: Which = "") -> None:
    """List a job's exchanges: who was asked, whose update went in, whose was dropped and why."""
    now = session()
    columns: list[Column] = [
        ("SEQ", field("seq")),
        ("ROUND", lambda row: row["round"] or None),
        ("TYPE", field("message_type")),
        ("FOLDED", field("fold")),
        ("ASKED", field("asked")),
        ("INCLUDED", lambda row: [entry["name"] for entry in _entries(row["included"])]),
        ("DROPPED", lambda row: [f"{entry['name']} ({entry['code']})" for entry in _entries(row["dropped"])]),
        ("CLOSED", field("closed_at")),
    ]
    now.out.rows(now.client.jobs.rounds(job_id(now.client, job)), columns, empty="no exchange yet")


def _none(state: str) -> str:
    return f"no job is {state}" if state else "no jobs yet; submit one: hansa job submit DIR --federation NAME"


def _to_the_end(now: Session, found: str, watching: bool) -> int:
    try:
        ended = watch(now.client, found, now.out) if watching else quietly(now.client, found)
    except Detached:
        now.out.say(f"detached; {found} goes on")
        now.out.next(f"hansa job watch {found}", f"hansa job cancel {found}")
        return failures.INTERRUPTED
    if now.out.as_json:
        now.out.line(ended)
    elif not watching:
        now.out.text(found)
    return verdict(now.client, ended, now.out)


def _submitted(now: Session, job: Job) -> None:
    if now.out.as_json:
        now.out.json(job)
    else:
        now.out.text(job["id"])
    now.out.next(f"hansa job watch {job['id']}")


def _upload(now: Session, directory: Path) -> App:
    return now.client.apps.upload(directory, lambda path, why: now.out.say(f"not part of the app: {path}: {why}"))


def _only_federation(now: Session) -> str:
    known = [federation["id"] for federation in now.client.federations.list()]
    if len(known) != 1:
        some = ", ".join(known[:5]) or "none"
        raise BadInput(f"you see {len(known)} federations ({some})", next_step="say which with --federation NAME")
    return known[0]


def _show_plan(now: Session, plan: Plan, federation: str, sent: App) -> None:
    able = [node for node in plan["nodes"] if not node["denials"]]
    rounds = f"{plan['rounds']} rounds" if plan["rounds"] else "rounds not said"
    now.out.say(f"{plan['app_name']} ({sent['app_digest'][:12]}) in {federation}: {rounds}, model {plan['model']}")
    now.out.say(
        f"{len(able)} of {len(plan['nodes'])} nodes can run it, {plan['minimum']} needed; {plan['aggregation']}"
    )
    for name in plan["missing_imports"]:
        now.out.say(f"not installed in the job's environment: {cell(name)}")
    rows = [
        [
            cell(node["name"]),
            cell(node["tenant"]),
            "yes" if node["online"] else "no",
            cell(node["datasets"]),
            cell(code),
            cell(message),
        ]
        for node in plan["nodes"]
        for code, message in ([(d["code"], d["message"]) for d in node["denials"]] or [("", "can run it")])
    ]
    now.out.table(["NODE", "TENANT", "ONLINE", "DATASETS", "DENIAL", "WHY"], rows)
    if plan["outlook"] is not None:
        _show_outlook(now, plan["outlook"])
    if not plan["placeable"]:
        now.out.say("it can never be placed as things stand")


def _show_outlook(now: Session, found: Outlook) -> None:
    start = found["start"]
    when = "at once" if not found["code"] else f"start {age(start, now.now)}" if start else "start not foreseen"
    when += f", at the latest {age(found['latest_start'], now.now)}" if found["latest_start"] else ""
    why = f": {cell(found['reason'])}" if found["code"] else ""
    now.out.say(f"rounds of {found['nodes']} nodes, {when}{why}")
    length = f"about {found['length_s']:.0f} s" if found["length_s"] is not None else "not known yet"
    hours = f", {found['gpu_hours']:.3g} GPU-hours" if found["gpu_hours"] else ""
    now.out.say(f"length: {length}{hours}")
    columns: list[Column] = [
        (name.upper(), field(name)) for name in ("site", "resource", "round", "held", "guarantee", "limit", "weight")
    ]
    now.out.rows(found["sites"], columns)


def _wait(entry: dict[str, object]) -> str:
    start = f", start {entry['forecast_start']}" if entry["forecast_start"] else ""
    latest = f", at the latest {entry['latest_start']}" if entry["latest_start"] else ""
    return f"{entry['ask']}: {entry['reason']}{start}{latest}"


def _entries(value: object) -> list[dict[str, object]]:
    return value if isinstance(value, list) else []
