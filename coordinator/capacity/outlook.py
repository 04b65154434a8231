"""One answer to "is this pool large enough": the formulas, the simulated queue beside them, the GPUs a target needs."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import BadInput
from coordinator.capacity.simulated import Simulated, simulated, simulated_gpus_for
from coordinator.capacity.sizing import Answer, Demand, formula, gpus_for, queue_of

MOST_STATES = 64
MOST_SIMULATED, MOST_SEARCHED = 20_000, 2_000  # Erlangs; beyond, the formulas stand alone
Record = dict[str, object]


@dataclass(frozen=True)
class Target:
    """How long a round may wait.

    Args:
        wait_s: Seconds, ≥ 0.
        share: Of the rounds that must not wait longer, in [0, 1).
    """

    wait_s: float
    share: float = 0.95


def outlook(demand: Demand, gpus: int, target: Target, seed: int = 0) -> Record:
    """Return what ``gpus`` give ``demand``, by M/M/c, by Allen-Cunneen and simulated, and how many ``target`` needs.

    A pool that cannot keep up has no mean wait: its answers are None and ``only_grows`` says so.
    """
    only_grows, mmc, general, states, played = "", None, None, None, None
    try:
        queue = queue_of(demand, gpus)
    except BadInput as error:
        if error.code != "queue_only_grows":
            raise
        only_grows = f"{error.detail}. {error.next_step}".strip()
    else:
        mmc = _answer(formula(demand, gpus, exponential=True), demand)
        general = _answer(formula(demand, gpus), demand)
        states = queue.states(min(queue.servers + 8, MOST_STATES))
        if demand.load <= MOST_SIMULATED:
            played = _played(simulated(demand, gpus, seed=seed))
    return {
        "demand": {
            "arrivals_per_s": demand.arrivals,
            "service_s": demand.service_s,
            "gang": demand.gang,
            "ca2": demand.ca2,
            "cs2": demand.cs2,
            "load": demand.load,
        },
        "gpus": gpus,
        "servers": gpus // demand.gang,
        "only_grows": only_grows,
        "mmc": mmc,
        "allen_cunneen": general,
        "simulated": played,
        "states": states,
        "target": _needed(demand, target, seed),
    }


def _answer(answer: Answer, demand: Demand) -> Record:
    return {
        "utilisation": answer.utilisation,
        "p_wait": answer.p_wait,
        "lq": answer.lq,
        "wq_s": answer.wq,
        "w_s": answer.wq + demand.service_s,
        "ls": answer.lq + demand.load,
        "waits_s": answer.waits,
    }


def _played(run: Simulated) -> Record:
    return {
        "customers": run.customers,
        "p_wait": run.p_wait,
        "wq_s": run.wq,
        "wq_error_s": run.wq_error,
        "waits_s": run.waits,
    }


def _needed(demand: Demand, target: Target, seed: int) -> Record:
    """Return the GPUs by each way of reckoning."""
    plain = Demand(demand.arrivals, demand.service_s, demand.gang)
    played = None
    if demand.load <= MOST_SEARCHED:
        played = simulated_gpus_for(demand, target.wait_s, target.share, seed=seed)
    return {
        "wait_s": target.wait_s,
        "share": target.share,
        "gpus_mmc": gpus_for(plain, target.wait_s, target.share),
        "gpus_allen_cunneen": gpus_for(demand, target.wait_s, target.share),
        "gpus_simulated": played,
    }
