"""``hansa new NAME``: a small app that works, to be changed into one's own."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from common.cli.session import session
from common.errors import BadInput, Conflict
from common.ids import slug
from common.jobspec import parse

_SKELETONS = Path(__file__).resolve().parent / "skeletons"


class Framework(StrEnum):
    """What the app's model is written in."""

    NUMPY = "numpy"
    TORCH = "torch"
    SKLEARN = "sklearn"


def new(
    name: Annotated[str, typer.Argument(help="The app's name, a slug; also the folder that is made.")],
    framework: Annotated[Framework, typer.Option(help="What the model is written in.")] = Framework.NUMPY,
    into: Annotated[Path, typer.Option(help="Where to make the folder.")] = Path(),
) -> None:
    """Make a small app that works: a model, two hospitals' worth of made-up data, train and evaluate."""
    now = session()
    made = write_app(name, framework, into)
    if now.out.as_json:
        now.out.json({"folder": str(made), "files": sorted(str(p.relative_to(made)) for p in made.rglob("*.*"))})
    else:
        now.out.text(str(made))
    now.out.next(f"hansa simulate {made} --nodes 2", f"hansa job submit {made} --federation NAME --watch")


def write_app(name: str, framework: Framework, into: Path) -> Path:
    """Write the skeleton of ``framework`` as the app ``name`` and return its folder.

    Raises:
        BadInput: the name will not do.
        Conflict: the folder exists.
    """
    slug(name, what="app name")
    module = re.sub(r"[^a-z0-9]", "_", name)
    if module[0].isdigit():
        raise BadInput(f"app name {name!r} must begin with a letter: it becomes a Python package")
    folder = into / name
    if folder.exists():
        raise Conflict(f"{folder} exists already", next_step="choose another name")
    words = {"name": name, "module": module}
    for template in sorted((_SKELETONS / framework.value).iterdir()):
        text = re.sub(r"@(\w+)@", lambda found: words[found[1]], template.read_text("utf-8"))
        place = folder / (template.stem if template.stem.endswith((".toml", ".md")) else f"{module}/{template.stem}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8")
    (folder / module / "__init__.py").write_text(f'"""The app {name}."""\n', "utf-8")
    parse((folder / "pyproject.toml").read_text("utf-8"))  # a skeleton that we could not read back is our fault
    return folder
