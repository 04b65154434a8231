"""The main job on a raised platform: submit, watch, compare, serve, ask."""

from __future__ import annotations

from typing import Any

from common.cli.local import serving
from common.cli.local.bringup import Raised
from common.cli.local.layout import FEDERATION
from common.cli.local.scores import Hospital, header, read_scores, table_row
from common.cli.output import Output, cell
from common.cli.progress import Progress, fold
from common.cli.watching import watch
from common.client.records import FINAL_STATES, Deployment, Job, JobEvent
from common.errors import AppFailed, PlatformError

SERVE_S = 60.0  # from the job's end to the last node serving
_LOOK_S = 0.1


def run_main_job(raised: Raised, out: Output) -> dict[str, Any]:
    """Run the whole main job and return what it gave; tells its progress as it goes.

    Raises:
        PlatformError: a step failed, or a process died.
    """
    client, began = raised.client(raised.layout.sites[0]), raised.clock.monotonic()
    app = client.apps.upload(raised.layout.app)
    job = client.jobs.submit(FEDERATION, app["app_digest"])
    out.say(f"submitted {app['name']} as {job['id']}")
    ended = watch(client, job["id"], out, each=_Milestones(raised, out), sleep=raised.wait)
    raised.processes.check()
    log = client.jobs.log(job["id"])
    if ended["state"] != "succeeded":
        raise AppFailed(
            f"the job {ended['state']}: {ended['note']}\nits log ends:\n" + "\n".join(log.splitlines()[-15:]),
            reason=ended["reason"] or "app_failed",
        )
    out.say(f"trained {ended['round']} rounds in {raised.clock.monotonic() - began:.1f} s")
    hospitals = read_scores(log, {row["partition_id"]: row["name"] for row in ended["roster"]})
    _show_scores(hospitals, out)
    version = _published(raised, ended)
    out.say(f"published {ended['tenant']}/{ended['model']} version {version}; its compressed copy goes to the nodes …")
    predictions = _ask_all(raised, ended, version, out) if raised.layout.spec.export else []
    return {
        "job": ended["id"],
        "rounds": ended["round"],
        "metrics": ended["metrics"],
        "hospitals": hospitals,
        "model": f"{ended['tenant']}/{ended['model']}",
        "version": version,
        "predictions": predictions,
    }


class _Milestones:
    """Tells a pipe what a terminal would see on its one line, but only when the round or the wait changes."""

    def __init__(self, raised: Raised, out: Output) -> None:
        self._raised, self._out, self._at = raised, out, Progress()
        self._planned = raised.layout.spec.rounds

    def __call__(self, entry: JobEvent) -> None:
        before, self._at = self._at, fold(self._at, entry)
        self._raised.processes.check()
        if self._out.as_json or self._out.live:
            return
        now = self._at
        if before.round and (now.round > before.round or now.state in FINAL_STATES):
            loss = "" if before.loss is None else f"  loss {before.loss:.4f}"
            self._out.say(f"  round {before.round}/{self._planned or '?'}{loss}")
        if now.note and now.note != before.note:
            self._out.say(f"  {now.state}: {now.note}")


def _show_scores(hospitals: list[Hospital], out: Output) -> None:
    if hospitals and not out.as_json:
        out.say("each hospital's own patients, out of fold (AUC n/a under 5 of a class):")
        out.table(header(), [[cell(text) for text in table_row(row)] for row in hospitals])


def _published(raised: Raised, job: Job) -> int:
    found = raised.client(raised.layout.sites[0]).models.get(job["tenant"], job["model"])
    versions = [version["version"] for version in found["versions"] if version["job"] == job["id"]]
    if not versions:
        raise PlatformError(f"{job['id']} succeeded but published no version of {job['model']}")
    return max(versions)


def _ask_all(raised: Raised, job: Job, version: int, out: Output) -> list[serving.Prediction]:
    body = serving.sample(raised.layout.spec)
    answers = [serving.ask(deployment, body) for deployment in _served(raised, job, version)]
    out.say("asked every node's own model server over HTTP, for one sample patient:")
    if not out.as_json:
        rows = [[a["node"], str(a["version"]), a["url"], cell(_flat(a["predictions"]))] for a in answers]
        out.table(["NODE", "VERSION", "URL", "PREDICTION"], rows)
    return answers


def _served(raised: Raised, job: Job, version: int) -> list[Deployment]:
    client, nodes = raised.client(raised.layout.sites[0]), [entry["node"] for entry in job["roster"]]
    until = raised.clock.monotonic() + SERVE_S
    while True:
        deployments = client.models.deployments()
        if serving.ready(deployments, job["tenant"], job["model"], version, nodes):
            return [
                d for d in deployments if (d["model"], d["version"]) == (job["model"], version) and d["node"] in nodes
            ]
        if raised.clock.monotonic() > until:
            states = ", ".join(f"{d['node_name']} {d['state']}" for d in deployments) or "none was asked"
            raise PlatformError(f"waited {SERVE_S:.0f} s for every node to serve v{version}: {states}")
        raised.wait(_LOOK_S)


def _flat(value: object) -> object:
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value
