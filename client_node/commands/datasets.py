"""``hansa node dataset …``: register files, and share them into federations."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from client_node.commands.shared import Dir, Federation, Json, Yes, changed, looked_at, opened, out, with_dir
from client_node.ports.state import Dataset
from client_node.services.datasets import describe
from client_node.settings import load
from common.cli.output import field
from common.cli.session import session
from common.clock import iso
from common.errors import NotFound
from common.ids import slug

app = typer.Typer(help="Datasets: files that stay here.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The dataset's name at this node.")]


@app.command("add")
def add(
    name: Name,
    path: Annotated[Path, typer.Argument(help="A CSV or Parquet file; it stays where it is.")],
    directory: Dir = None,
    table_format: Annotated[str, typer.Option("--format", help="csv or parquet, if the file does not show it.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="The name is taken: register the file anew.")] = False,
    as_json: Json = False,
) -> None:
    """Register a CSV or Parquet file: its schema, row count and digest.  Nothing is copied, nothing is shared."""
    with opened(directory) as (place, state):
        limit = load(place.root).dataset_bytes
        dataset = describe(
            name, path, node_dir=place.root, now=session().now, max_bytes=limit, table_format=table_format
        )
        state.put_dataset(dataset, replace=replace)
        _show(next(d for d in state.datasets() if d.name == name))
        changed(place)
    out().next(with_dir(f"hansa node dataset share {name} --federation FEDERATION", directory))


@app.command("ls")
def ls(directory: Dir = None, as_json: Json = False) -> None:
    """List the registered datasets."""
    with looked_at(directory) as (_, state):
        rows = [_row(dataset) for dataset in state.datasets()]
    columns = [(name.upper(), field(name)) for name in ("name", "format", "rows", "federations", "path")]
    out().rows(rows, columns, empty="no dataset is registered; next: hansa node dataset add NAME PATH")


@app.command("show")
def show(name: Name, directory: Dir = None, as_json: Json = False) -> None:
    """Show one dataset with its columns."""
    with looked_at(directory) as (_, state):
        found = [dataset for dataset in state.datasets() if dataset.name == name]
    if not found:
        raise NotFound(f"no dataset is named {name!r} at this node", next_step="hansa node dataset ls")
    _show(found[0])


@app.command("rm")
def rm(name: Name, directory: Dir = None, yes: Yes = False, as_json: Json = False) -> None:
    """Forget a dataset and its shares.  The file itself is not touched."""
    if not yes:
        typer.confirm(f"Forget dataset {name!r} and its shares? The file stays.", abort=True, err=True)
    with looked_at(directory) as (place, state):
        state.drop_dataset(name)
        changed(place)
    out().say(f"Dataset {name} is no longer registered; its file was not touched.")


@app.command("share")
def share(name: Name, federation: Federation, directory: Dir = None, as_json: Json = False) -> None:
    """Open a dataset to the approved apps of a federation."""
    with looked_at(directory) as (place, state):
        state.share(name, slug(federation, what="federation"))
        changed(place)
    out().say(f"Approved apps of federation {federation} may now read {name} here; the data stays at this node.")
    out().next(with_dir(f"hansa node app approve DIGEST --federation {federation}", directory))


@app.command("unshare")
def unshare(name: Name, federation: Federation, directory: Dir = None, as_json: Json = False) -> None:
    """Close a dataset to a federation; tasks that use it are stopped."""
    with looked_at(directory) as (place, state):
        state.unshare(name, federation)
        changed(place)
    out().say(f"Dataset {name} is closed to federation {federation}.")


def _row(dataset: Dataset) -> dict[str, object]:
    row = asdict(dataset)
    row["added"] = iso(dataset.added)
    row["federations"] = list(dataset.federations)
    row["columns"] = [asdict(column) for column in dataset.columns]
    del row["mtime_ns"]
    return row


def _show(dataset: Dataset) -> None:
    names = ("name", "path", "format", "rows", "size", "digest", "federations", "added")
    columns = [(name, field(name)) for name in names]
    shown = [f"{column.name}: {column.type}" for column in dataset.columns]
    out().record(_row(dataset), [*columns, ("columns", lambda _row: shown)])
