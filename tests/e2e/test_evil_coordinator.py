"""A hostile coordinator, in a process of its own, gets nothing out of an unmodified agent that it should not have."""

import json
import os
import subprocess
import sys

import pytest

from tests.integration.node_stage import FED
from tests.platform import HANSA, Process

pytestmark = pytest.mark.e2e

REFUSED = {
    "plain": "mode_too_low",
    "lowered_parameters": "lowered_parameters",
    "cohort_of_one": "cohort_too_small",
    "cohort_of_two": "cohort_too_small",
    "strangers": "forged_roster",
    "swapped_key": "forged_roster",
    "two_models": "forged_roster",
    "taken_back": "mode_too_low",
    "both_shares": "both_shares",
    "open_two": "cohort_too_small",
    "victim_lost": "forged_survivors",
    "without_quorum": "survivors_unproven",
    "second_list": "second_opening",
    "replay_with_other_list": "second_opening",
    "masked_anew": "already_opened",
}


def report(evil):
    """Return the next line of JSON; the others are its log."""
    return next((json.loads(line) for line in evil.stdout if line.startswith("{")), None)


def test_every_trick_is_refused_and_written_down(tmp_path):
    env = {**os.environ, "HANSA_CONTEXT": str(tmp_path / "context.json")}
    with (tmp_path / "evil.log").open("w") as log:
        evil = subprocess.Popen(
            [sys.executable, "-m", "tests.evil_coordinator", str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    told = report(evil)

    def hansa(*args):
        done = subprocess.run([*HANSA, "node", *args, "--dir", told["dir"]], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    data = tmp_path / "rows.csv"
    data.write_text("a,b\n1,2\n3,4\n5,6\n")
    hansa("dataset", "add", "rows", str(data))
    hansa("dataset", "share", "rows", "--federation", FED)
    hansa("app", "approve", told["app"], "--federation", FED)
    hansa("policy", "set", "sandbox", "none")
    hansa("policy", "set", "minimum_mode", "mask")
    agent = Process([*HANSA, "node", "run", "--dir", told["dir"]], tmp_path / "agent.log", env)
    agent.start()
    try:
        found = report(evil)
        assert found, (tmp_path / "evil.log").read_text()[-3000:] + (tmp_path / "agent.log").read_text()[-3000:]
        assert evil.wait(60) == 0
        refusals = json.loads(hansa("refusals", "--json"))
    finally:
        agent.stop()
        evil.kill()
        evil.wait(60)
        evil.stdout.close()
    shares, vector = found.pop("shares"), found.pop("vector_bytes")
    assert found == REFUSED
    assert len(shares) == 4  # of each member's self-mask one, and of nobody's mask key
    assert vector  # what it did get is noise without the others
    written = [row["code"] for row in reversed(refusals)]
    assert written == list(REFUSED.values())
