"""The context file: which coordinator, in whose name, trusted by which CA.

It holds tokens, so it is written with mode 0600, whole or not at all.  ``HANSA_CONTEXT`` names another file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from common.errors import BadInput, NotFound


@dataclass(frozen=True)
class Context:
    """One coordinator and one identity there."""

    url: str
    token: str
    ca: str = ""  # path of a PEM file; "" = what the machine trusts
    keys: dict[str, str] = field(default_factory=dict)  # key id -> public key, hex: pinned manifest signers


@dataclass(frozen=True)
class Contexts:
    """All of them, and the one in use."""

    current: str = ""
    entries: dict[str, Context] = field(default_factory=dict)

    def get(self, name: str = "") -> Context:
        """Return context ``name``, or the one in use.

        Raises:
            NotFound: there is none.
        """
        wanted = name or self.current
        if wanted not in self.entries:
            raise NotFound(
                f"no context {wanted!r}" if wanted else "no coordinator is set",
                next_step="hansa login --url https://HOST:PORT --token-file FILE --ca FILE",
            )
        return self.entries[wanted]

    def having(self, name: str, context: Context) -> Contexts:
        """Return these with ``context`` added under ``name`` and in use."""
        return Contexts(name, {**self.entries, name: context})

    def using(self, name: str) -> Contexts:
        """Return these with ``name`` in use."""
        self.get(name)
        return replace(self, current=name)


def context_path(environ: Mapping[str, str]) -> Path:
    """Return where the context file is kept."""
    if named := environ.get("HANSA_CONTEXT"):
        return Path(named)
    home = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "hansa" / "context.json"


def load(path: Path) -> Contexts:
    """Return what the file holds; nothing, if there is none.

    Raises:
        BadInput: the file is damaged.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Contexts()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}", next_step=f"remove {path} and run hansa login") from error
    try:
        entries = {str(name): Context(**value) for name, value in data["contexts"].items()}
        return Contexts(str(data["current"]), entries)
    except (AttributeError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is not a context file", next_step=f"remove {path} and run hansa login") from error


def save(path: Path, contexts: Contexts) -> None:
    """Write the file, whole or not at all, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = json.dumps({"current": contexts.current, "contexts": {n: asdict(c) for n, c in contexts.entries.items()}})
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
