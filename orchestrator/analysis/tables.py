"""A sweep as plain rows: one a trial, one an epoch. Frames, reports and the end of a sweep are made of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.base.records import CAN_BE_BEST
from orchestrator.journal.record import SweepRecord, TrialRecord, is_number

TRIAL_COLUMNS = {
    "trial": "number of the trial, from 0 in the order of the sampler",
    "name": "number, choices and searched values in short",
    "state": "running, completed, stopped (by the scheduler), diverged, infeasible, failed or cancelled",
    "reason": "why it ended, where the state does not say it all",
    "rank": "1 is the best value of those that can be the best; equal values have equal ranks",
    "value": "the objective at the best epoch",
    "best_epoch": "the epoch of the value",
    "epochs": "the last epoch that was reported",
    "epochs_planned": "the epochs that it would have had to the end",
    "config_index": "number of the configuration, which repeats with other seeds share",
    "repeat": "which of the configuration's trials, from 0",
    "seed": "of weights, batches and augmentation",
    "attempts": "how often it began",
    "began": "when the first attempt began, in milliseconds since 1970",
    "ended": "when it ended, in milliseconds since 1970",
    "seconds": "from began to ended, the waiting between attempts included",
}
"""The columns that every table of trials has, before `params.*` (the searched keys) and `metrics.*` (of the test, at the end)."""

EPOCH_COLUMNS = {
    "trial": "number of the trial",
    "epoch": "from 1",
    "time": "its end, in milliseconds since 1970, by the worker's clock",
}
"""The columns that every table of epochs has, before one for each metric."""


def trial_rows(record: SweepRecord) -> list[dict[str, Any]]:
    """One row a trial, by number: `TRIAL_COLUMNS`, `params.<key>` for each searched key, `metrics.<name>` of the test.

    What a trial has not is None; a number that is not finite is, too.
    """
    mode = record.opened.mode
    ranks = _ranks(record, mode)
    params = dict.fromkeys(key for trial in record.trials.values() for key in trial.params)
    metrics = dict.fromkeys(name for trial in record.trials.values() for name in trial.metrics)
    return [
        {
            **_fixed(trial, ranks.get(trial.index)),
            **{f"params.{key}": trial.params.get(key) for key in params},
            **{f"metrics.{name}": _finite(trial.metrics.get(name)) for name in metrics},
        }
        for trial in sorted(record.trials.values(), key=lambda trial: trial.index)
    ]


def epoch_rows(record: SweepRecord) -> Iterator[dict[str, Any]]:
    """One row an epoch, by trial and epoch: `EPOCH_COLUMNS`, and the metrics that it has.

    Args:
        record: one that keeps epochs (`read_sweep(folder, keep_epochs=True)`).
    """
    for trial in sorted(record.trials.values(), key=lambda trial: trial.index):
        rows = {}
        for epoch in trial.epochs:
            metrics = {name: _finite(value) for name, value in epoch["metrics"].items()}
            rows[epoch["epoch"]] = {
                "trial": trial.index,
                "epoch": epoch["epoch"],
                "time": epoch["time_ms"],
                **metrics,
            }
        yield from (rows[epoch] for epoch in sorted(rows))


def _fixed(trial: TrialRecord, rank: int | None) -> dict[str, Any]:
    from orchestrator.analysis.naming import trial_name

    began = trial.began_ms[0] if trial.began_ms else None
    seconds = (trial.ended_ms - began) / 1000 if began is not None and trial.ended_ms is not None else None
    values: dict[str, Any] = {
        "trial": trial.index,
        "name": trial_name(trial.index, trial.params),
        "state": trial.state.value,
        "reason": trial.reason if trial.reason != trial.state else None,
        "rank": rank,
        "value": _finite(trial.value),
        "best_epoch": trial.best_epoch,
        "epochs": trial.epoch,
        "epochs_planned": trial.config.get("epochs"),
        "config_index": trial.config_index,
        "repeat": trial.repeat,
        "seed": trial.config.get("seed"),
        "attempts": len(trial.attempts),
        "began": began,
        "ended": trial.ended_ms,
        "seconds": None if seconds is None else max(seconds, 0.0),
    }
    assert list(values) == list(TRIAL_COLUMNS)
    return values


def _ranks(record: SweepRecord, mode: str) -> dict[int, int]:
    """Trial -> its place among those that can be the best, from 1; equal values share the first place of theirs."""
    values = {
        trial.index: trial.value
        for trial in record.trials.values()
        if trial.state in CAN_BE_BEST and is_number(trial.value)
    }
    ordered = sorted(values.values(), reverse=mode == "max")
    first: dict[float, int] = {}
    for place, value in enumerate(ordered, 1):
        first.setdefault(value, place)
    return {index: first[value] for index, value in values.items()}


def _finite(value: object) -> Any:
    return value if is_number(value) else None
