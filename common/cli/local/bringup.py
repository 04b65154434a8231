"""Raising a local platform: a coordinator, then tenants, nodes, federation, consent, agents; all by public means.

What an admin would do by REST is done by REST, each tenant with its own token; what an operator would type at a node is
typed as that command, in its own process.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from common.bundle import pack, read_bundle
from common.cli.context import Context, Contexts, save
from common.cli.local.layout import FEDERATION, Layout, Site, prepare_folders
from common.cli.local.processes import Processes
from common.client import Client
from common.client.records_nodes import Node
from common.clock import Clock
from common.errors import PlatformError, Unreachable

READY_S = 60.0  # for a coordinator to answer, or for all agents to be online
_LOOK_S = 0.05


class Raised:
    """A platform that is being raised or runs.

    Args:
        layout: What it is made of.
        processes: Takes its processes; whoever made it ends them.
        clock: For deadlines.
        say: Told each step, for people.
        sandbox: "bwrap" or "none".
    """

    def __init__(
        self, layout: Layout, processes: Processes, clock: Clock, say: Callable[[str], None], sandbox: str = "bwrap"
    ) -> None:
        self.layout, self.processes, self.clock, self.say, self.sandbox = layout, processes, clock, say, sandbox
        self.url = ""
        self.app_digest = str(read_bundle(pack(layout.app)).digest)
        self._clients: dict[Path, Client] = {}

    def client(self, site: Site | None = None) -> Client:
        """Return a client in the name of the platform's admin, or of a site's tenant admin."""
        path = site.token_file if site else self.layout.coordinator / "admin.token"
        if path not in self._clients:
            self._clients[path] = Client(self.url, path.read_text("utf-8").strip(), self.ca)
        return self._clients[path]

    @property
    def ca(self) -> Path:
        """The coordinator's CA."""
        return self.layout.coordinator / "ca" / "ca.pem"

    def wait(self, seconds: float) -> None:
        """Wait a little, if all processes run.

        Raises:
            ProcessDied: one does not.
        """
        self.processes.check()
        time.sleep(seconds)

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            client.close()

    def raise_all(self) -> None:
        """Bring the platform up; return when every agent is online and the coordinator knows what it consents to.

        Raises:
            PlatformError: a step failed, or a process died.
        """
        if self.layout.whole:
            self._start_coordinator()
            for site in self.layout.sites:
                self._start_agent(site)
        else:
            prepare_folders(self.layout)
            self._start_coordinator()
            self._make_tenants()
            self._make_nodes()
            self._write_context()
        self._until(self._all_online, "every node online")
        self.layout.seal(self.clock.now(), self.url)
        self.say(f"{len(self.layout.sites)} nodes are online")

    def _make_nodes(self) -> None:
        """Set the nodes up side by side; each agent is started as soon as its node is set up."""
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            futures = {pool.submit(self._set_up_node, site): site for site in self.layout.sites}
            try:
                for future in as_completed(futures):
                    future.result()
                    self._start_agent(futures[future])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.processes.end_brief()
                raise

    def _start_agent(self, site: Site) -> None:
        arguments = ["node", "run", "--dir", str(site.agent)]
        self.processes.start(f"node {site.name}", arguments, site.root / "agent.log")

    def _start_coordinator(self) -> None:
        self.say("starting the coordinator …")
        folder = self.layout.coordinator
        # Its ports are the last ones again, so that the nodes find it.
        arguments = ["coordinator", "serve", "--dir", str(folder)]
        process = self.processes.start("coordinator", arguments, self.layout.root / "coordinator.log")
        self._until(lambda: self._answers(folder / "coordinator.json", process.running.pid), "the coordinator")
        self.say(f"coordinator at {self.url}")

    def _answers(self, stated: Path, pid: int) -> bool:
        try:
            row = json.loads(stated.read_text("utf-8"))
            if row["pid"] != pid:
                return False  # an earlier run's
            self.url = str(row["url"])
            with Client(self.url, "", self.ca) as client:
                client.health()
        except (OSError, ValueError, KeyError, Unreachable):
            return False
        return True

    def _make_tenants(self) -> None:
        admin, names = self.client(), [site.name for site in self.layout.sites]
        for site in self.layout.sites:
            admin.tenants.create(site.name, site.name.capitalize())
            token = admin.tenants.create_token(site.name, "tenant_admin", f"steward@{site.name}")["token"]
            site.token_file.touch(0o600)
            site.token_file.write_text(token + "\n", "utf-8")
        first = self.layout.sites[0]
        # The example asks every hospital one question at the end, and reads the answers one by one.
        self.client(first).federations.create(FEDERATION, names[1:], title="Hospitals", individual_replies=True)
        for site in self.layout.sites[1:]:
            self.client(site).federations.accept(FEDERATION)
        self.say(f"tenants {', '.join(names)} accepted the federation {FEDERATION}")

    def _write_context(self) -> None:
        """Let the person at the keyboard be the first tenant's admin, pinning the signers that its node pinned."""
        first = self.layout.sites[0]
        signers = json.loads((first.agent / "node.json").read_text("utf-8"))["manifest_keys"]
        chosen = Context(self.url, first.token_file.read_text("utf-8").strip(), str(self.ca), signers)
        save(self.layout.context, Contexts().having("local", chosen))

    def _set_up_node(self, site: Site) -> None:
        with Client(self.url, site.token_file.read_text("utf-8").strip(), self.ca) as client:
            token = client.tenants.create_join_token(site.name, site.name)["token"]
        folder = ["--dir", str(site.agent)]
        node = self.processes.command
        node("node", "join", self.url, "--token", token, "--name", site.name, *folder)
        node("node", "dataset", "add", site.dataset, str(site.data), *folder)
        node("node", "dataset", "share", site.dataset, "--federation", FEDERATION, *folder)
        node("node", "app", "approve", self.app_digest, "--federation", FEDERATION, *folder)
        node("node", "policy", "set", "individual_replies", "allow", *folder)
        if self.sandbox != "bwrap":
            node("node", "policy", "set", "sandbox", self.sandbox, *folder)
        self.say(f"{site.name}: joined, shares {site.dataset}, approved the app {self.app_digest[:12]}")

    def _all_online(self) -> bool:
        nodes = {node["name"]: node for node in self.client(self.layout.sites[0]).nodes.list()}
        return all(site.name in nodes and _ready(nodes[site.name]) for site in self.layout.sites)

    def _until(self, done: Callable[[], bool], what: str) -> None:
        until = self.clock.monotonic() + READY_S
        while not done():
            if self.clock.monotonic() > until:
                raise PlatformError(
                    f"waited {READY_S:.0f} s for {what}", next_step=f"read the logs in {self.layout.root}"
                )
            self.wait(_LOOK_S)


def _ready(node: Node) -> bool:
    return node["online"] and bool(node["datasets"]) and bool(node["approvals"])
