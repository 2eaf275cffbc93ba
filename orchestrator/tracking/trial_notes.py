"""The description of each trial in MLflow: its place, how it ended, and the command that trains it again. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.analysis.divergence import Rates, divergence_advice, divergence_words, good_rates
from orchestrator.analysis.health import health_words
from orchestrator.base.records import CAN_BE_BEST, State
from orchestrator.base.secrets import redact
from orchestrator.base.text import visible
from orchestrator.journal.events import Published
from orchestrator.journal.publishing import text_event
from orchestrator.journal.record import SweepRecord, TrialRecord, is_number
from orchestrator.tracking.describe import NOTE

LONGEST_REASON = 1_000

WHY = {
    State.COMPLETED: "Completed",
    State.STOPPED: "Stopped early: the scheduler gave its place to a better trial",
    State.DIVERGED: "Diverged: a loss was not finite",
    State.INFEASIBLE: "Infeasible: this configuration cannot be trained",
    State.FAILED: "Failed: an error, which says nothing about the configuration",
    State.CANCELLED: "Cancelled: the sweep ended before it did",
}


def trial_notes(record: SweepRecord) -> Iterator[Published]:
    """The descriptions of the trials that have ended, as far as they are others than those published last."""
    values = {
        trial.index: trial.value
        for trial in record.trials.values()
        if trial.state in CAN_BE_BEST and is_number(trial.value)
    }
    ordered = sorted(values.values(), reverse=record.opened.mode == "max")
    ranks: dict[float, int] = {}
    for rank, value in enumerate(ordered, 1):
        ranks.setdefault(value, rank)
    good = good_rates(record.trials.values())
    for trial in record.trials.values():
        if trial.ended:
            place = ranks[values[trial.index]] if trial.index in values else None
            event = text_event(f"{record.uid}/{trial.index}", NOTE, _text(record, trial, place, len(values), good))
            if record.published.get((event.run, event.key)) != event:
                yield event


def _text(record: SweepRecord, trial: TrialRecord, rank: int | None, of: int, good: Rates) -> str:
    parts = []
    if rank is not None:
        metric = record.opened.metric
        parts.append(f"**Rank {rank} of {of}** by `{metric}`: {trial.value:.6g} at epoch {trial.best_epoch}.")
    parts.append(f"{WHY.get(trial.state, trial.state.value)}; {trial.epoch} of {trial.config.get('epochs')} epochs.")
    if trial.reason and trial.reason != trial.state:
        reason = visible(redact(trial.reason))[:LONGEST_REASON].replace("```", "'''")
        parts.append(f"```\n{reason}\n```")
    if trial.init_health and trial.init_health["verdict"] != "ok":
        health = visible(redact(health_words(trial.init_health)))[:LONGEST_REASON].replace("```", "'''")
        parts.append(f"Its initialization:\n\n```\n{health}\n```")
    if trial.divergence:
        story = [divergence_words(trial.divergence, trial.reason), *divergence_advice(trial, good)]
        told, *advice = [visible(redact(line))[:LONGEST_REASON].replace("```", "'''") for line in story]
        parts.append("\n".join(["```", told, *(f"try {line}" for line in advice), "```"]))
    uid = f"{record.uid}/{trial.index}"
    parts.append(f"Again: `orchestrator train from={uid}`; everything about it: `orchestrator show {uid}`")
    return "\n\n".join(parts)
