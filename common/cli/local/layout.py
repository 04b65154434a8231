"""What a local platform is made of, and where it lies on disk.

DIR/platform.json            written last: the platform is whole and may be started again
DIR/context.json             the context of the first tenant's admin; HANSA_CONTEXT points here
DIR/coordinator/             the coordinator's own folder, and coordinator.log beside it
DIR/NAME/agent/ data/        one hospital: its node's folder, its data; agent.log beside them
DIR/NAME/token               its tenant admin's API token
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from common import jobspec
from common.clock import iso
from common.errors import BadInput
from common.jobspec import JobSpec

FEDERATION = "hospitals"
_SAMPLE = "x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(20))


@dataclass(frozen=True)
class Site:
    """One tenant with one node."""

    name: str
    root: Path
    data: Path  # the file it registers
    dataset: str

    @property
    def agent(self) -> Path:
        """The node's folder."""
        return self.root / "agent"

    @property
    def token_file(self) -> Path:
        """Where its tenant admin's token is kept."""
        return self.root / "token"


@dataclass(frozen=True)
class Layout:
    """A local platform on disk."""

    root: Path
    app: Path
    spec: JobSpec
    sites: tuple[Site, ...]

    @property
    def coordinator(self) -> Path:
        """The coordinator's folder."""
        return self.root / "coordinator"

    @property
    def context(self) -> Path:
        """The context file made for the person at the keyboard."""
        return self.root / "context.json"

    @property
    def whole(self) -> bool:
        """Whether this platform was brought up before, to the end."""
        return (self.root / "platform.json").exists()

    def seal(self, now: float, url: str) -> None:
        """Mark the platform as whole."""
        row = {"created_at": iso(now), "app": str(self.app), "sites": [s.name for s in self.sites], "url": url}
        (self.root / "platform.json").write_text(json.dumps(row, indent=2) + "\n", "utf-8")


def default_app() -> Path:
    """Return the heart example of the working directory, of this checkout, or of the wheel.

    Raises:
        BadInput: none has it.
    """
    here = Path(__file__).resolve()
    for root in (Path.cwd(), here.parents[3], here.parents[1]):
        if (root / "examples" / "heart" / "pyproject.toml").is_file():
            return root / "examples" / "heart"
    raise BadInput("examples/heart is not here", next_step="reinstall hansa, or give --app DIR")


def plan_layout(root: Path, app: Path, count: int) -> Layout:
    """Return the layout of ``count`` sites for ``app`` under ``root``; one site a file of the app's ``data`` folder.

    Raises:
        BadInput: the folder is no app.
    """
    try:
        spec = jobspec.parse((app / "pyproject.toml").read_text("utf-8"))
    except OSError as error:
        raise BadInput(f"{app} has no pyproject.toml", next_step="name the directory of a Flower app") from error
    files = sorted((app / "data").glob("*.csv")) if (app / "data").is_dir() else []
    names = [path.stem.lower() for path in files] if files else ["site"]
    dataset = spec.datasets[0] if spec.datasets else spec.name
    sites = []
    for i in range(count):
        name = names[i % len(names)] + (f"-{i // len(names) + 1}" if i >= len(names) or not files else "")
        sites.append(Site(name, root / name, root / name / "data" / f"{dataset}.csv", dataset))
    return Layout(root, app, spec, tuple(sites))


def prepare_folders(layout: Layout) -> None:
    """Make every site's folder and give it its own copy of its data.

    Raises:
        BadInput: the folder holds something that is no whole platform.
    """
    if layout.root.exists() and any(layout.root.iterdir()):
        raise BadInput(
            f"{layout.root} is not empty and holds no finished platform", next_step="remove it, or name another --dir"
        )
    layout.root.mkdir(parents=True, exist_ok=True)
    os.chmod(layout.root, 0o700)  # noqa: PTH101 - tokens and keys lie below
    files = sorted((layout.app / "data").glob("*.csv"))
    for i, site in enumerate(layout.sites):
        site.data.parent.mkdir(parents=True)
        if files:
            shutil.copyfile(files[i % len(files)], site.data)
        else:
            site.data.write_text(_SAMPLE, "utf-8")
