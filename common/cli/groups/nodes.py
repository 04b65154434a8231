"""``hansa nodes …``: the coordinator's view of nodes (what one does *at* a node is ``hansa node …``)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from common.cli.output import Column, ago, cell, field
from common.cli.resolve import node_named
from common.cli.session import session

app = typer.Typer(no_args_is_help=True, help="The coordinator's view of nodes. At a node, use `hansa node`.")
Which = Annotated[str, typer.Argument(metavar="NODE", help="Name, id, or the beginning of an id.")]


@app.command()
def ls() -> None:
    """List the nodes of your tenants and federations."""
    now = session()
    columns: list[Column] = [
        ("NODE", field("name")),
        ("TENANT", field("tenant")),
        ("STATE", field("state")),
        ("DATASETS", _datasets),
        ("GPUS", lambda row: len(_list(row, "devices")) or "-"),
        ("APPS", lambda row: len(_list(row, "approvals"))),
        ("SANDBOX", field("sandbox")),
        ("RELEASE", field("release")),
        ("ID", field("id")),
    ]
    now.out.rows(
        now.client.nodes.list(), columns, empty="no nodes; add one: hansa tenant join-token TENANT --node NAME"
    )


@app.command()
def show(node: Which) -> None:
    """Show one node: standing, certificate, datasets shared, apps approved."""
    now = session()
    columns: list[Column] = [
        ("node", field("name")),
        ("id", field("id")),
        ("tenant", field("tenant")),
        ("state", field("state")),
        ("seen", ago("seen_at", now.now)),
        ("certificate until", field("certificate_until")),
        ("generation", field("generation")),
        ("datasets", _shares),
        ("approved apps", _approvals),
        ("environments", field("environments")),
        ("slots", field("slots")),
        ("CPUs", field("cpus")),
        ("memory MiB", field("memory_mib")),
        ("devices", _devices),
        ("labels", field("labels")),
        ("leases held to by", field("enforcement")),
        ("sandbox", field("sandbox")),
        ("serves at", field("serving")),
        ("clock skew s", field("skew_s")),
        ("release", field("release")),
    ]
    now.out.record(node_named(now.client, node), columns)


@app.command()
def revoke(node: Which, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Revoke a node for good: its certificate is refused from now on."""
    now = session()
    found = node_named(now.client, node)
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to be asked; add --yes", param_hint="--yes")
    if not yes:
        typer.confirm(f"Revoke {found['name']} of {found['tenant']} for good?", abort=True, err=True)
    now.client.nodes.revoke(found["id"])
    now.out.say(f"revoked {found['name']}; to come back it must join again under a new token")
    if now.out.as_json:
        now.out.json(now.client.nodes.get(found["id"]))


def _list(row: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    value = row.get(name)
    return value if isinstance(value, list) else []


def _datasets(row: Mapping[str, object]) -> str:
    """Return each dataset once: it is reported for every federation that it is shared into."""
    rows = {str(d["name"]): d["rows"] for d in _list(row, "datasets")}
    return ", ".join(f"{cell(name)} ({cell(count)} rows)" for name, count in rows.items()) or "-"


def _shares(row: Mapping[str, object]) -> str:
    shown = (f"{cell(d['name'])} ({cell(d['rows'])} rows) in {cell(d['federation'])}" for d in _list(row, "datasets"))
    return ", ".join(shown) or "-"


def _devices(row: Mapping[str, object]) -> list[str]:
    return [
        f"{cell(d['name'])} ({cell(d['kind'])}, {cell(d['memory_mib'])} MiB{_busy(d)}) {cell(d['uuid'])}"
        for d in _list(row, "devices")
    ]


def _busy(device: Mapping[str, object]) -> str:
    used, busy = device.get("used_mib"), device.get("busy_percent")
    return (f", {used} used" if used is not None else "") + (f", {busy} % busy" if busy is not None else "")


def _approvals(row: Mapping[str, object]) -> str:
    return ", ".join(f"{str(a['app_digest'])[:12]} in {cell(a['federation'])}" for a in _list(row, "approvals")) or "-"
