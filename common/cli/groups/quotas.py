"""``hansa quota …``: what a site gives each tenant, and what each may use at the coordinator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import typer

from common.cli.amounts import NOTHING, amount_in_words, held_in_words, parse_amount, parse_size, size_in_words
from common.cli.output import Column, ago, cell, field
from common.cli.session import Session, session
from common.client.records_quotas import Allowance, Amount, Grant
from common.errors import BadInput, NotFound, PolicyDenied

app = typer.Typer(
    no_args_is_help=True,
    help="What a site's owner gives each tenant there, and (`--coordinator`) what each may use at the coordinator.",
)
Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="To whom it is given.")]
Site = Annotated[str, typer.Option("--site", metavar="TENANT", help="Who owns the nodes; yours if not said.")]
Central = Annotated[bool, typer.Option("--coordinator", help="What the tenant may use at the coordinator.")]
_FORM = "cuda=2,cuda-memory=40GiB,cpu=8,ram=64GiB"


@app.command("set")
def set_(
    tenant: Tenant,
    site: Site = "",
    guarantee: Annotated[
        str, typer.Option(metavar="AMOUNT", help=f"Served before what others borrow: `{_FORM}`; `none` takes it back.")
    ] = "",
    limit: Annotated[str, typer.Option(metavar="AMOUNT", help="Never more than this at once; `none` lifts it.")] = "",
    weight: Annotated[
        int | None, typer.Option(min=1, help="Share of what is left, against the others' weights.")
    ] = None,
    coordinator: Central = False,
    running_jobs: Annotated[int | None, typer.Option(min=0, metavar="N", help="ServerApps at once.")] = None,
    queued_jobs: Annotated[int | None, typer.Option(min=0, metavar="N", help="Jobs that wait.")] = None,
    stored: Annotated[str, typer.Option(metavar="SIZE", help="Of apps, versions and journals: 500GiB.")] = "",
) -> None:
    """Set a tenant's quota at your site; what is not named stays as it is.

    With `--coordinator` the platform admin sets what the tenant may use there.
    """
    now = session()
    here, central = (guarantee, limit, weight), (running_jobs, queued_jobs, stored or None)
    if coordinator and any(part not in {"", None} for part in (site, *here)):
        raise BadInput("--coordinator goes with --running-jobs, --queued-jobs and --stored")
    if not coordinator and any(part is not None for part in central):
        raise BadInput("--running-jobs, --queued-jobs and --stored go with --coordinator")
    if coordinator:
        _set_allowance(now, tenant, running_jobs, queued_jobs, stored)
        return
    if not any(part not in {"", None} for part in here):
        raise BadInput(f"say what to set: --guarantee {_FORM}, --limit, --weight N")
    owner = _site(now, site)
    found = _found(now, owner, tenant)
    given = (
        _given(guarantee, "--guarantee", found["guarantee"] if found else None),
        _given(limit, "--limit", found["limit"] if found else None),
        weight or (found["weight"] if found else 1),
    )
    with _owners_act(now, owner):
        made = now.client.quotas.set_grant(owner, tenant, *given, etag=found["etag"] if found else None)
    _show_grant(now, made)


@app.command()
def ls(
    site: Annotated[str, typer.Option("--site", metavar="TENANT", help="Only at this site.")] = "",
    tenant: Annotated[str, typer.Option("--tenant", "-t", metavar="TENANT", help="Only of this tenant.")] = "",
    coordinator: Central = False,
) -> None:
    """List the quotas at your site and yours elsewhere, with what is held now."""
    now = session()
    if coordinator:
        rows = [row for row in now.client.quotas.allowances() if tenant in {"", row["tenant"]}]
        now.out.rows(rows, [(name.upper(), get) for name, get in _ALLOWANCE], empty="no tenants yet")
        return
    columns: list[Column] = [
        ("SITE", field("site")),
        ("TENANT", field("tenant")),
        ("GUARANTEE", _amount("guarantee")),
        ("LIMIT", _amount("limit")),
        ("HELD", _held),
        ("WEIGHT", field("weight")),
        ("AGE", ago("set_at", now.now)),
    ]
    now.out.rows(
        now.client.quotas.grants(site or None, tenant or None),
        columns,
        empty=f"no quotas, so all share alike what is idle; set one: hansa quota set TENANT --guarantee {_FORM}",
    )


@app.command()
def show(tenant: Tenant, site: Site = "", coordinator: Central = False) -> None:
    """Show what a tenant is given everywhere you may see it: at the coordinator and at each site."""
    now = session()
    if site:
        _show_grant(now, now.client.quotas.grant(site, tenant))
        return
    if coordinator:
        _show_allowance(now, now.client.quotas.allowance(tenant))
        return
    allowance, grants = _allowance(now, tenant), now.client.quotas.grants(tenant=tenant)
    if now.out.as_json:
        now.out.json({"allowance": allowance, "grants": grants})
        return
    if allowance is None and not grants:
        raise NotFound(f"no quota of a tenant {tenant!r} that you may see", next_step="hansa quota ls")
    if allowance is not None:
        _show_allowance(now, allowance)
    for number, grant in enumerate(grants):
        if number or allowance is not None:
            now.out.text("")
        _show_grant(now, grant)


@app.command()
def rm(tenant: Tenant, site: Site = "", coordinator: Central = False) -> None:
    """Take a quota back: nothing guaranteed, no limit, weight 1; at the coordinator its default."""
    now = session()
    if coordinator:
        before = now.client.quotas.allowance(tenant)
        _show_allowance(now, now.client.quotas.remove_allowance(tenant, etag=before["etag"]))
        return
    owner = _site(now, site)
    with _owners_act(now, owner):
        now.client.quotas.remove_grant(owner, tenant, etag=now.client.quotas.grant(owner, tenant)["etag"])
    now.out.say(f"{tenant} has no quota at {owner} any more: it may use what is idle, with weight 1")


def _set_allowance(now: Session, tenant: str, running: int | None, queued: int | None, stored: str) -> None:
    if running is None and queued is None and not stored:
        raise BadInput("say what to set: --running-jobs N, --queued-jobs N, --stored SIZE")
    found = now.client.quotas.allowance(tenant)
    made = now.client.quotas.set_allowance(
        tenant,
        running_jobs=found["running_jobs"] if running is None else running,
        queued_jobs=found["queued_jobs"] if queued is None else queued,
        stored_bytes=parse_size(stored, "--stored") if stored else found["stored_bytes"],
        etag=found["etag"],
    )
    _show_allowance(now, made)


def _site(now: Session, given: str) -> str:
    if given:
        return given
    tenants = now.client.whoami()["tenants"]
    if len(tenants) != 1:
        raise BadInput("say whose nodes: --site TENANT", next_step="hansa context show")
    return tenants[0]


@contextmanager
def _owners_act(now: Session, site: str) -> Iterator[None]:
    """Say who may, where it is refused to somebody of another tenant."""
    try:
        yield
    except (NotFound, PolicyDenied) as error:
        mine = now.client.whoami()["tenants"]
        if site in mine:
            raise
        whose = f"you act for {', '.join(mine)}" if mine else "you act for no tenant"
        raise PolicyDenied(
            f"only an admin of {site} may change what tenants are given at its nodes; {whose}",
            next_step=f"ask {site}, or give a token of its admin: --token TOKEN",
        ) from error


def _found(now: Session, site: str, tenant: str) -> Grant | None:
    try:
        return now.client.quotas.grant(site, tenant)
    except NotFound:
        return None


def _allowance(now: Session, tenant: str) -> Allowance | None:
    try:
        return now.client.quotas.allowance(tenant)
    except NotFound:
        return None


def _given(text: str, flag: str, found: Amount | None) -> Amount:
    return parse_amount(text, flag) if text else found or parse_amount(NOTHING, flag)


def _show_grant(now: Session, grant: Grant) -> None:
    columns: list[Column] = [
        ("site", field("site")),
        ("tenant", field("tenant")),
        ("guarantee", _amount("guarantee")),
        ("limit", _amount("limit")),
        ("held now", _held),
        ("weight", field("weight")),
        ("set", lambda row: f"{ago('set_at', now.now)(row)} ago by {cell(row.get('set_by'))}"),
    ]
    now.out.record(grant, columns)
    for warning in grant["warnings"]:
        now.out.say(f"warning: {warning}")


def _show_allowance(now: Session, allowance: Allowance) -> None:
    now.out.record(allowance, _ALLOWANCE)


def _amount(name: str) -> Callable[[Mapping[str, object]], str]:
    return lambda row: amount_in_words(row.get(name))


def _held(row: Mapping[str, object]) -> str:
    return held_in_words(row.get("held"))


def _of(row: Mapping[str, object], name: str) -> str:
    """Return what is used of what may be: ``3 of 8``."""
    used, may = row.get("used"), row.get(name)
    figures = (used.get(name) if isinstance(used, Mapping) else None, may)
    return " of ".join(size_in_words(f) if name == "stored_bytes" and isinstance(f, int) else cell(f) for f in figures)


_ALLOWANCE: list[Column] = [
    ("tenant", field("tenant")),
    ("running jobs", lambda row: _of(row, "running_jobs")),
    ("queued jobs", lambda row: _of(row, "queued_jobs")),
    ("stored", lambda row: _of(row, "stored_bytes")),
    ("set by", lambda row: "default" if row.get("default") else row.get("set_by")),
]
