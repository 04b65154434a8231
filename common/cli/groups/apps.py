"""``hansa app …``: an app's identity, before and without any coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common import bundle, jobspec
from common.cli.session import session

app = typer.Typer(no_args_is_help=True, help="App directories.")


@app.command()
def digest(directory: Annotated[Path, typer.Argument(help="The app's directory.")]) -> None:
    """Print the digest that a steward approves: it names every file of the app."""
    now = session()
    left_out: list[str] = []
    archive = bundle.pack(directory, on_skip=lambda path, why: left_out.append(f"{path}: {why}"))
    opened = bundle.read_bundle(archive)
    spec = jobspec.parse(opened.pyproject)
    for line in left_out:
        now.out.say(f"not part of the app: {line}")
    if now.out.as_json:
        files = {path: len(data) for path, data in opened.files.items()}
        now.out.json({"app_digest": opened.digest, "name": spec.name, "size": len(archive), "files": files})
        return
    now.out.text(opened.digest)
    now.out.next(f"hansa node app approve {opened.digest} --federation NAME    # at each node")
