"""``hansa coordinator serve``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def serve(
    directory: Annotated[Path, typer.Option("--dir", help="Folder of its state; made if need be.")],
    host: Annotated[str | None, typer.Option(help="Address of both listeners. [127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="REST and console; 0 = the last one, or any free one.")] = None,
    link_port: Annotated[int | None, typer.Option(help="Node link; 0 = the last one, or any free one.")] = None,
    name: Annotated[list[str] | None, typer.Option(help="Further host name or address of its certificate.")] = None,
    database: Annotated[str | None, typer.Option(help="sqlite:///PATH or postgresql://…  [DIR]")] = None,
    blobs: Annotated[str | None, typer.Option(help="A folder, s3://BUCKET or s3+https://HOST/BUCKET. [DIR]")] = None,
    sandbox: Annotated[str | None, typer.Option(help="How apps are kept apart: bwrap or none. [bwrap]")] = None,
) -> None:
    """Serve until told to stop (SIGTERM, Ctrl-C)."""
    # The coordinator's own libraries are heavy; `--help` must not wait for them.
    from coordinator.app import serve as run
    from coordinator.settings import load

    flags = {
        "host": host, "port": port, "link_port": link_port, "names": tuple(name) if name else None,
        "database": database, "blobs": blobs, "sandbox": sandbox,
    }  # fmt: skip
    settings = load(directory, os.environ, flags)
    run(settings, said=_said)


def _said(url: str, directory: Path, first: bool) -> None:
    """Say where it is, and what to do next."""
    typer.echo(url)
    typer.echo(f"The coordinator serves {url}; its state is in {directory}.", err=True)
    token = directory / "admin.token"
    if first:
        typer.echo(f"Its first admin token is in {token}.", err=True)
    ca = directory / "ca" / "ca.pem"
    typer.echo(f"next: hansa login --url {url} --token-file {token} --ca {ca}", err=True)
