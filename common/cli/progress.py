"""What is known of a running job, as one value folded from its event log, and the one line that shows it.

The fold reads facts by name and ignores events it does not know, so a newer coordinator's log still shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from common.cli.output import cell
from common.client.records import FINAL_STATES, Job, JobEvent

_LOSSES = ("loss", "eval_loss", "eval-loss", "val_loss", "train_loss", "train-loss")  # the customary names, first
_QUIET = frozenset({"sentence", "round", "rounds", "why", "fold_s"})
_ANSWERS = frozenset({"update_received", "update_dropped", "node_failed"})
_CLOSES = frozenset({"roster_fixed", "round_aggregated", "evaluated", "round_finished", "job_resumed"})
_BAR = 20  # characters


@dataclass(frozen=True)
class Progress:
    """Where a job is, as far as its log has been read."""

    state: str = "queued"
    note: str = ""
    round: int = 0
    rounds: int = 0  # planned; 0 = the app does not say
    loss: float | None = None
    waiting_for: tuple[str, ...] = ()
    dropped: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


def started(job: Job) -> Progress:
    """Return the progress of a job as the coordinator describes it now."""
    metrics = {name: value for name, value in job["metrics"].items() if value is not None}
    return Progress(job["state"], job["note"], job["round"], job["rounds"], loss_in(metrics), metrics=metrics)


def fold(progress: Progress, entry: JobEvent) -> Progress:
    """Return ``progress`` after one more line of the log."""
    event, facts = entry["event"], entry["facts"]
    metrics = {**progress.metrics, **_numbers(event, facts)}
    return replace(
        progress,
        state=_state(event, facts, progress.state),
        note=_note(event, facts, progress.note),
        round=max(progress.round, _whole(facts.get("round"))),
        rounds=_whole(facts.get("rounds")) or progress.rounds,
        loss=loss_in(metrics),
        waiting_for=_waited(event, facts, progress.waiting_for),
        dropped=progress.dropped + (event == "update_dropped"),
        metrics=metrics,
    )


def loss_in(metrics: Mapping[str, float]) -> float | None:
    """Return the loss among ``metrics``, preferring one measured by evaluation over one of training."""
    parts: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for name, value in metrics.items():
        if "loss" in name.lower():
            parts[name.startswith("train.") or "train" in name.lower()][name.rpartition(".")[2]] = value
    for part in parts:
        for name in (*_LOSSES, *sorted(part)):
            if name in part:
                return part[name]
    return None


def in_line(progress: Progress, elapsed: float) -> str:
    """Return the progress as one line: bar, round i/N, loss, who is waited for."""
    parts = [f"{progress.state:<10}"]
    if progress.rounds:
        filled = min(_BAR, progress.round * _BAR // progress.rounds)
        parts.append("[" + "#" * filled + "." * (_BAR - filled) + "]")
        parts.append(f"round {progress.round}/{progress.rounds}")
    elif progress.round:
        parts.append(f"round {progress.round}")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.dropped:
        parts.append(f"{progress.dropped} dropped")
    if progress.note:
        parts.append(cell(progress.note))
    elif progress.waiting_for:
        more = len(progress.waiting_for) - 4
        named = ", ".join(cell(name) for name in progress.waiting_for[:4])
        parts.append(f"waiting for {named}" + (f" and {more} more" if more > 0 else ""))
    parts.append(f"{elapsed:.0f}s")
    return "  ".join(parts)


def in_words(entry: JobEvent) -> str:
    """Return one line of the log as people read it."""
    facts = entry["facts"]
    told = [str(facts["sentence"])] if facts.get("sentence") else []
    told += [
        f"{name}={_short(value)}" for name, value in facts.items() if name not in _QUIET and value not in ("", None)
    ]
    head = entry["event"].replace("_", " ")
    if _whole(facts.get("round")):
        head += f" {facts['round']}" + (f"/{facts['rounds']}" if facts.get("rounds") else "")
    return "  ".join([entry["at"][11:19], head, *(cell(text) for text in told)])


def _numbers(event: str, facts: Mapping[str, object]) -> dict[str, float]:
    """Return an entry's metrics, named by who measured them."""
    whole = "train" if event == "round_aggregated" else "evaluate"
    found: dict[str, float] = {}
    for fact, part in (("metrics", whole), ("train", "train"), ("evaluate", "evaluate")):
        table = facts.get(fact)
        if isinstance(table, dict) and event != "job_succeeded":
            found |= {f"{part}.{k}": float(v) for k, v in table.items() if isinstance(v, (int, float))}
    return found


def _state(event: str, facts: Mapping[str, object], before: str) -> str:
    if event == "job_waiting":
        return "waiting" if facts.get("stalled") else before
    if event.removeprefix("job_") in FINAL_STATES:
        return event.removeprefix("job_")
    return "running" if event in {"roster_fixed", "round_started", "job_resumed"} else before


def _note(event: str, facts: Mapping[str, object], before: str) -> str:
    if event == "job_waiting":
        return str(facts.get("sentence") or "")
    if event == "job_failed":
        return str(facts.get("message") or "")
    return "" if event in _CLOSES or event == "round_started" else before


def _waited(event: str, facts: Mapping[str, object], before: tuple[str, ...]) -> tuple[str, ...]:
    """Return who is waited for: all that were asked, less those that answered or fell out."""
    if event == "round_started":
        names = facts.get("nodes")
        return tuple(str(name) for name in names) if isinstance(names, (list, tuple)) else ()
    if event in _ANSWERS and not facts.get("retried"):
        return tuple(name for name in before if name != facts.get("node"))
    return () if event in _CLOSES else before


def _whole(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 2**53 else 0


def _short(value: object) -> str:
    text = f"{{{cell(value)}}}" if isinstance(value, dict) else cell(value)
    return text if len(text) <= 80 else text[:77] + "…"
