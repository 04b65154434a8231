"""Short names for long ids: a prefix that fits one object is as good as the whole id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from common.client import Client
from common.client.records import Job
from common.client.records_nodes import Node
from common.errors import BadInput, NotFound

_JOB_LENGTH = len("job_") + 16


def pick(wanted: str, ids: Iterable[str], *, what: str, prefix: str, ls: str) -> str:
    """Return the one of ``ids`` that ``wanted`` begins, with or without its type prefix.

    Raises:
        NotFound: none fits.
        BadInput: several fit.
    """
    known = sorted(set(ids))
    if wanted in known:
        return wanted
    fitting = [i for i in known if wanted and (i.startswith(wanted) or i.removeprefix(prefix).startswith(wanted))]
    if not fitting:
        raise NotFound(f"no {what} {wanted!r}", next_step=ls)
    if len(fitting) > 1:
        raise BadInput(f"{what} {wanted!r} could be {', '.join(fitting[:5])}", next_step="give more of the id")
    return fitting[0]


def job_id(client: Client, wanted: str) -> str:
    """Return the id of job ``wanted`` (an id or its beginning); "" is the newest job.

    Raises:
        NotFound: no such job.
        BadInput: several fit.
    """
    if len(wanted) == _JOB_LENGTH and wanted.startswith("job_"):
        return wanted
    jobs: Sequence[Job] = client.jobs.list(limit=1 if not wanted else None)
    if not wanted and jobs:
        return jobs[0]["id"]
    return pick(wanted, (job["id"] for job in jobs), what="job", prefix="job_", ls="hansa job ls")


def node_named(client: Client, wanted: str) -> Node:
    """Return the node with this name, ``tenant/name``, id, or beginning of an id.

    Raises:
        NotFound: no such node.
        BadInput: several fit.
    """
    nodes = client.nodes.list()
    named = [node for node in nodes if wanted in {node["name"], f"{node['tenant']}/{node['name']}"}]
    if len(named) == 1:
        return named[0]
    if named:
        raise BadInput(
            f"{len(named)} nodes are named {wanted!r}", next_step=f"say which: {named[0]['tenant']}/{named[0]['name']}"
        )
    found = pick(wanted, (node["id"] for node in nodes), what="node", prefix="node_", ls="hansa nodes ls")
    return next(node for node in nodes if node["id"] == found)
