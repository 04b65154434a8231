"""Where things lie in a node's directory, and who the node is."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from common.errors import NotFound

DEFAULT = Path("~/.hansa/node")


@dataclass(frozen=True)
class NodeIdentity:
    """What the coordinator told the node at join (``node.json``); nothing secret."""

    node: str
    tenant: str
    name: str
    coordinator: str  # https URL of REST
    link: str  # host:port of the node link
    ca_sha256: str
    manifest_keys: dict[str, str]  # key id -> public key, hex


@dataclass(frozen=True)
class NodeDir:
    """The paths of one node."""

    root: Path

    @property
    def identity_file(self) -> Path:
        return self.root / "node.json"

    @property
    def key(self) -> Path:
        return self.root / "key.pem"

    @property
    def certificate(self) -> Path:
        return self.root / "cert.pem"

    @property
    def ca(self) -> Path:
        return self.root / "ca.pem"

    @property
    def database(self) -> Path:
        return self.root / "node.sqlite"

    @property
    def updates(self) -> Path:
        return self.root / "updates"

    @property
    def masked(self) -> Path:
        return self.root / "masked"

    @property
    def apps(self) -> Path:
        return self.root / "apps"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def agent_file(self) -> Path:
        return self.root / "agent.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def local_policies(self) -> Path:
        return self.root / "local.cedar"

    def prepare(self) -> None:
        """Make the folders, for the owner only."""
        for folder in (self.root, self.updates, self.masked, self.apps, self.jobs, self.cache, self.log):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def joined(self) -> bool:
        """Say whether ``hansa node join`` has been here."""
        return self.identity_file.is_file() and self.certificate.is_file() and self.key.is_file()

    def identity(self) -> NodeIdentity:
        """Return who this node is.

        Raises:
            NotFound: it has not joined, or its file is damaged.
        """
        join = "hansa node join https://HOST:PORT --token TOKEN"
        try:
            data = json.loads(self.identity_file.read_text())
            return NodeIdentity(**{name: data[name] for name in NodeIdentity.__dataclass_fields__})
        except FileNotFoundError:
            raise NotFound(f"{self.root} is no joined node", next_step=join) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotFound(f"{self.identity_file} is damaged: {error}", next_step=join) from error


def node_dir(given: Path | None) -> NodeDir:
    """Return the node directory: as given, else ``HANSA_NODE_DIR``, else ``~/.hansa/node``."""
    chosen = given or Path(os.environ.get("HANSA_NODE_DIR") or DEFAULT)
    return NodeDir(chosen.expanduser().absolute())
