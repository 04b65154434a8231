"""``hansa model …`` and ``hansa deployments …``: versions, where they came from, where they serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.cli.output import Column, ago, field
from common.cli.refs import ModelRef, resolve
from common.cli.resolve import node_named
from common.cli.session import session
from common.client.records import Model
from common.errors import BadInput, NotFound

app = typer.Typer(no_args_is_help=True, help="Model versions: list, pull, verify, import, name, deploy.")
deployments = typer.Typer(no_args_is_help=True, help="What the nodes serve.")
Ref = Annotated[str, typer.Argument(metavar="MODEL", help="[TENANT/]MODEL[:VERSION|:ALIAS]; newest if not said.")]
_DEPLOYED: list[Column] = [
    ("MODEL", lambda row: f"{row['tenant']}/{row['model']}"),
    ("VERSION", field("version")),
    ("NODE", field("node_name")),
    ("STATE", field("state")),
    ("URL", field("url")),
    ("MESSAGE", field("message")),
]


@app.command()
def ls() -> None:
    """List models with their newest version."""
    now = session()
    rows = [{**row["latest"], "versions": row["versions"]} for row in now.client.models.list()]
    columns: list[Column] = [
        ("MODEL", lambda row: f"{row['tenant']}/{row['model']}"),
        ("NEWEST", field("version")),
        ("VERSIONS", field("versions")),
        ("SERVABLE", field("servable")),
        ("JOB", field("job")),
        ("AGE", ago("created_at", now.now)),
    ]
    now.out.rows(rows, columns, empty="no models yet; a finished job publishes one: hansa job submit DIR -f FEDERATION")


@app.command()
def show(model: Ref) -> None:
    """Show a model's versions and aliases; of a version or alias, that one."""
    now = session()
    asked = ModelRef.parse(model)
    ref = resolve(now.client, asked)
    found = now.client.models.get(ref.tenant, ref.model)
    if asked.version or asked.alias:
        _show_version(found, ref)
        return
    if now.out.as_json:
        now.out.json(found)
        return
    names: dict[int, list[str]] = {}
    for alias in found["aliases"]:
        names.setdefault(alias["version"], []).append(alias["name"])
    columns: list[Column] = [
        ("VERSION", field("version")),
        ("ALIASES", lambda row: sorted(names.get(int(str(row["version"])), []))),
        ("METRICS", field("metrics")),
        ("SERVABLE", field("servable")),
        ("JOB", field("job")),
        ("ROUND", field("round")),
        ("AGE", ago("created_at", now.now)),
    ]
    now.out.rows(found["versions"], columns)
    now.out.next(f"hansa model pull {ref.tenant}/{ref.model}")


def _show_version(found: Model, ref: ModelRef) -> None:
    now = session()
    version = next((v for v in found["versions"] if v["version"] == ref.version), None)
    if version is None:
        newest = max((v["version"] for v in found["versions"]), default=0)
        raise NotFound(
            f"{ref.tenant}/{ref.model} has no version {ref.version}; its newest is {newest}",
            next_step=f"hansa model show {ref.tenant}/{ref.model}",
        )
    names = sorted(alias["name"] for alias in found["aliases"] if alias["version"] == ref.version)
    shown = ("tenant", "model", "version", "aliases", "job", "round", "federation", "metrics", "servable")
    columns = [(name, field(name)) for name in (*shown, "manifest", "created_at")]
    now.out.record({**version, "aliases": names}, columns)
    now.out.next(f"hansa model pull {ref}")


@app.command()
def pull(
    model: Ref, target: Annotated[Path | None, typer.Argument(help="Folder to make; default MODEL-vN.")] = None
) -> None:
    """Download a version: signed manifest, weights as safetensors, and the graph, each digest checked."""
    from common.cli.modelfolder import pull_version

    now = session()
    ref = resolve(now.client, ModelRef.parse(model))
    folder = target or Path(f"{ref.model}-v{ref.version}")
    files = pull_version(now.client, ref.tenant, ref.model, ref.version, folder)
    now.out.say(f"pulled {ref} into {folder}")
    if now.out.as_json:
        now.out.json({"folder": str(folder), "version": ref.version, "files": files})
    else:
        for name in files:
            now.out.text(str(folder / name))
    now.out.next(f"hansa model verify {folder}" + ("" if now.connection.keys else " --key ID=HEX"))


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="What `hansa model pull` made.")],
    key: Annotated[list[str], typer.Option("--key", help="Pinned signer, ID=HEX; repeat for more.")] = [],
    node: Annotated[Path | None, typer.Option(help="Take the signers that this node's folder pinned at join.")] = None,
) -> None:
    """Check a pulled version offline: the signature against a pinned key, and every blob's digest."""
    from common.cli.modelfolder import check_folder, pinned_keys

    now = session()
    keys = pinned_keys(key, node, now.contexts)
    manifest, checked = check_folder(folder, keys)
    now.out.say(f"good: {manifest.tenant}/{manifest.model} v{manifest.version}, signed by {manifest.key_id}")
    row = {
        "tenant": manifest.tenant,
        "model": manifest.model,
        "version": manifest.version,
        "key_id": manifest.key_id,
        "job": manifest.job,
        "app_digest": manifest.app_digest,
        "round": manifest.round,
        "cohort": manifest.cohort,
        "created_at": manifest.created_at,
        "files": checked,
    }
    now.out.record(row, [(name, field(name)) for name in row])


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="An .onnx or .safetensors file.", exists=True, dir_okay=False)],
    model: Annotated[str, typer.Option(help="The model's name; default the file's.")] = "",
    tenant: Annotated[str, typer.Option(help="Which tenant owns it; needed if the token has several.")] = "",
    fmt: Annotated[str, typer.Option("--format", help="onnx or safetensors; default by the file's ending.")] = "",
) -> None:
    """Make a model trained elsewhere a version that can be pushed and served."""
    now = session()
    kind = fmt or path.suffix.removeprefix(".")
    if kind not in {"onnx", "safetensors"}:
        raise typer.BadParameter(f"cannot tell the format of {path.name}; say --format onnx or safetensors")
    made = now.client.models.import_file(tenant or _own_tenant(), model or path.stem.lower(), path, kind)
    now.out.record(
        made,
        [(n, field(n)) for n in ("tenant", "model", "version", "manifest", "servable")],
    )
    if made["servable"]:
        now.out.next(f"hansa model deploy {made['tenant']}/{made['model']}:{made['version']}")


@app.command()
def alias(model: Ref, name: Annotated[str, typer.Argument(help="The alias: a slug such as prod.")]) -> None:
    """Move an alias to a version, unless somebody moved it meanwhile."""
    now = session()
    ref = resolve(now.client, ModelRef.parse(model))
    known = {a["name"]: a["generation"] for a in now.client.models.get(ref.tenant, ref.model)["aliases"]}
    moved = now.client.models.move_alias(ref.tenant, ref.model, name, ref.version, known.get(name, 0))
    now.out.record(moved, [(n, field(n)) for n in ("name", "version", "generation", "moved_by", "moved_at")])


@app.command()
def deploy(
    model: Ref,
    node: Annotated[list[str], typer.Option("--node", help="A node's name or id; repeat for more; default all.")] = [],
) -> None:
    """Ask nodes to serve a version."""
    now = session()
    ref = resolve(now.client, ModelRef.parse(model))
    nodes = [node_named(now.client, name)["id"] for name in node] if node else None
    now.out.rows(now.client.models.deploy(ref.tenant, ref.model, ref.version, nodes), _DEPLOYED)
    now.out.next("hansa deployments ls")


@deployments.command("ls")
def deployments_ls() -> None:
    """List what each node should serve, and what it last said."""
    now = session()
    now.out.rows(now.client.models.deployments(), _DEPLOYED, empty="nothing is deployed: hansa model deploy MODEL")


def _own_tenant() -> str:
    tenants = session().client.whoami()["tenants"]
    if len(tenants) != 1:
        raise BadInput(f"your token speaks for {len(tenants)} tenants", next_step="say which with --tenant")
    return tenants[0]
