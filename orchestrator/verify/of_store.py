"""What MLflow says against what the journal says: the same trials, epochs, numbers, settings and ends."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.base.records import State
from orchestrator.journal.events import Started, Terminal
from orchestrator.stores.runs import MAX_PARAM_LENGTH, Metric, StoredRun, safe_name, text_of
from orchestrator.verify.evidence import SweepEvidence, TrialEvidence, fixed
from orchestrator.verify.of_journal import best_configuration, best_text, is_same_best, require_closed, short
from orchestrator.verify.rules import Finding

ENDED = ("FINISHED", "FAILED", "KILLED")

STATUS = {
    State.COMPLETED: "FINISHED",
    State.STOPPED: "FINISHED",
    State.DIVERGED: "FAILED",
    State.INFEASIBLE: "FAILED",
    State.FAILED: "FAILED",
    State.INTERRUPTED: "KILLED",
    State.CANCELLED: "KILLED",
}
"""How a trial's end is shown in MLflow."""

HIDDEN_INFINITY = 1.797e308
"""MLflow stores an infinity as the largest number that there is."""

CLOCKS_APART_MS = 300_000
"""How far the clocks of the machines of a cluster may be apart; on one machine there is one clock."""


def one_run(trial: TrialEvidence) -> Iterator[Finding]:
    if len(trial.runs) != 1:
        yield Finding(f"{len(trial.runs)} active runs with its trial_uid", "1")


def only_known_runs(sweep: SweepEvidence) -> Iterator[Finding]:
    """No active run of the sweep, or of no sweep, is of a trial that the journal does not know; one run is the sweep's own."""
    known = {trial.uid for trial in sweep.trials.values()}
    for run in _active(sweep):
        if run.tags.get("kind") != "sweep" and run.uid not in known:
            yield Finding(f"run {run.run_id} has trial_uid {run.uid}", "one that the journal knows", f"run {run.name}")
    own = [run for run in _active(sweep) if run.tags.get("kind") == "sweep"]
    if len(own) != 1:
        yield Finding(f"{len(own)} active runs of kind sweep", "1")
    for run in _active(sweep):
        above = run.tags.get("mlflow.parentRunId")
        if own and run.tags.get("kind") == "trial" and above != own[0].run_id:
            yield Finding(f"run {run.run_id} lies below run {above}", f"below {own[0].run_id}", f"run {run.name}")


def _active(sweep: SweepEvidence) -> list[StoredRun]:
    return [run for run in sweep.runs or () if not run.deleted]


def distinct_runs(sweep: SweepEvidence) -> Iterator[Finding]:
    """No two active runs are of one trial."""
    for uid, count in Counter(run.uid for run in _active(sweep)).items():
        if uid is not None and count > 1:
            yield Finding(f"{count} active runs of {uid}", "1", "the runs")


def run_ended(trial: TrialEvidence) -> Iterator[Finding]:
    """The run has ended as the trial has."""
    for run in trial.runs:
        yield from _ended(run, STATUS[trial.state], trial.state.value)


def sweep_run_ended(sweep: SweepEvidence) -> Iterator[Finding]:
    if sweep.parent is None:
        return
    if sweep.closed is None:
        yield from _ended(sweep.parent, "KILLED", State.INTERRUPTED.value)
    else:
        reason = str(sweep.closed.reason)
        yield from _ended(sweep.parent, "FAILED" if reason == "failed" else "FINISHED", reason)


def _ended(run: StoredRun, status: str, reason: str) -> Iterator[Finding]:
    if run.status not in ENDED or run.status != status:
        yield Finding(f"its run is {run.status}", status)
    if run.tags.get("reason") != reason:
        yield Finding(f"its run's reason is {run.tags.get('reason')}", reason)
    if run.start_ms is None or run.end_ms is None or run.end_ms < run.start_ms:
        yield Finding(f"its run lasts from {run.start_ms} to {run.end_ms}", "an end, not before its start")


def totals_of_store(sweep: SweepEvidence) -> Iterator[Finding]:
    """MLflow has as many runs of each state as the closing counts, and the sweep's run says so."""
    closed = sweep.closed
    if closed is None or sweep.parent is None:
        return
    said = {state: count for state, count in closed.totals.items() if count}
    runs = Counter(run.tags.get("reason") for run in _active(sweep) if run.tags.get("kind") == "trial")
    if runs != said:
        yield Finding(f"MLflow has {dict(runs)}", f"{said}", "the runs")
    prefix = "trials/"
    shown = {row.key.removeprefix(prefix): row.value for row in sweep.parent.latest if row.key.startswith(prefix)}
    if {state: count for state, count in shown.items() if count} != said:
        yield Finding(f"the sweep's run shows {shown}", f"{said}", "the sweep's run")


def epochs_as_reported(trial: TrialEvidence) -> Iterator[Finding]:
    """Each metric has one row an epoch, with the time and the value that the journal reports, and one row at the end."""
    expected = _expected(trial)
    history = trial.history()
    for key in sorted({*expected, *history}):
        ours, theirs = expected.get(key, []), [row[1:] for row in history.get(key, [])]
        if ours == theirs:
            continue
        steps, due = [row[0] for row in theirs], [row[0] for row in ours]
        if steps != due:
            yield Finding(f"{key} has the steps {short(steps)}", short(due) or "none")
        else:
            other = next(place for place, row in enumerate(theirs) if row != ours[place])
            yield Finding(f"{key} at step {steps[other]} is {theirs[other][1:]}", f"{ours[other][1:]} (time, value)")


def _expected(trial: TrialEvidence) -> dict[str, list[tuple[int, int, float]]]:
    """(step, time, value) of each metric, by what the journal says; MLflow is given finite numbers alone."""
    found: dict[str, list[tuple[int, int, float]]] = {}
    for epoch in trial.epochs:
        for key, value in epoch["metrics"].items():
            _add(found, key, epoch["epoch"], epoch["time_ms"], value)
    end = trial.terminal
    if end is None:
        return found
    step = end.best_epoch or end.epoch or 0
    time_ms = trial.of(Terminal)[0].time_ms
    for key, value in end.metrics.items():
        _add(found, key, step, time_ms, value)
    if end.best_epoch is not None and isinstance(end.value, int | float):
        _add(found, _best_key(trial.sweep), step, time_ms, end.value)
        _add(found, "best/epoch", step, time_ms, end.best_epoch)
    return found


def _add(found: dict[str, list[tuple[int, int, float]]], key: str, step: int, time_ms: int, value: Any) -> None:
    if _is_finite(value):
        found.setdefault(safe_name(key), []).append((step, time_ms, float(value)))


def _is_finite(value: Any) -> bool:
    """The journal writes other numbers as words."""
    return isinstance(value, int | float) and math.isfinite(value)


def _best_key(sweep: SweepEvidence) -> str:
    return "best/" + safe_name(sweep.metric).replace("/", "_")


def whole_epochs(trial: TrialEvidence) -> Iterator[Finding]:
    """The metrics of an epoch are there together, or not at all."""
    there = {(row.key, row.step) for row in trial.rows}
    for epoch in trial.epochs:
        finite = {safe_name(key) for key, value in epoch["metrics"].items() if _is_finite(value)}
        lacking = {key for key in finite if (key, epoch["epoch"]) not in there}
        if lacking and lacking != finite:
            yield Finding(f"epoch {epoch['epoch']} lacks {', '.join(sorted(lacking))}", "all its metrics, or none")


def newest_is_last(trial: TrialEvidence) -> Iterator[Finding]:
    if trial.run is not None:
        yield from _newest(trial.run, trial.rows)


def newest_of_sweep_is_last(sweep: SweepEvidence) -> Iterator[Finding]:
    if sweep.parent is not None:
        yield from _newest(sweep.parent, sweep.memo["rows of the sweep's run"])


def _newest(run: StoredRun, rows: Sequence[Metric]) -> Iterator[Finding]:
    """What MLflow keeps as newest is the row of the highest step."""
    last: dict[str, Metric] = {}
    for row in rows:
        if row.key not in last or row[1:] > last[row.key][1:]:
            last[row.key] = row
    latest = {row.key: row for row in run.latest}
    for key in sorted({*last, *latest}):
        ours, theirs = last.get(key), latest.get(key)
        if repr(ours) != repr(theirs):  # NaN is not equal to itself
            yield Finding(f"the newest {key} is {_row_text(theirs)}", f"{_row_text(ours)}, the last of its history")


def _row_text(row: Metric | None) -> str:
    return "missing" if row is None else f"{row.value} at step {row.step} (time {row.time_ms})"


def times_in_order(trial: TrialEvidence) -> Iterator[Finding]:
    if trial.run is not None:
        yield from _in_order(trial.run, trial.rows, _tolerance_ms(trial.sweep))


def times_of_sweep_in_order(sweep: SweepEvidence) -> Iterator[Finding]:
    if sweep.parent is not None:
        yield from _in_order(sweep.parent, sweep.memo["rows of the sweep's run"], 0)


def _in_order(run: StoredRun, rows: Sequence[Metric], tolerance_ms: int) -> Iterator[Finding]:
    """Later steps have later times, and all lie between the start and the end of the run."""
    before: dict[str, Metric] = {}
    for row in sorted(rows, key=lambda row: (row.key, row.step, row.time_ms)):
        last = before.get(row.key)
        if last is not None and row.time_ms < last.time_ms - tolerance_ms:
            yield Finding(
                f"step {row.step} of {row.key} is of {row.time_ms}", f"not before {last.time_ms} (step {last.step})"
            )
        before[row.key] = row
    if not rows or run.start_ms is None or run.end_ms is None:
        return
    first, last = min(rows, key=lambda row: row.time_ms), max(rows, key=lambda row: row.time_ms)
    if first.time_ms < run.start_ms - tolerance_ms:
        yield Finding(
            f"step {first.step} of {first.key} is of {first.time_ms}", f"not before its run began ({run.start_ms})"
        )
    if last.time_ms > run.end_ms + tolerance_ms:
        yield Finding(f"step {last.step} of {last.key} is of {last.time_ms}", f"not after its run ended ({run.end_ms})")


def _tolerance_ms(sweep: SweepEvidence) -> int:
    return 0 if str(sweep.plan.cluster["_target_"]).endswith("LocalCluster") else CLOCKS_APART_MS


def settings_as_suggested(trial: TrialEvidence) -> Iterator[Finding]:
    """The run has every searched setting, and no setting that the trial's configuration has not."""
    if trial.run is None:
        return
    params: Mapping[str, Any] = trial.suggested.params
    searched = {safe_name(key): text_of(value)[:MAX_PARAM_LENGTH] for key, value in params.items()}
    for key, value in searched.items():
        if trial.run.params.get(key) != value:
            yield Finding(f"{key} is {trial.run.params.get(key)} in its run", value)
    for key, shown in trial.run.params.items():
        value = text_of(fixed(trial, key))[:MAX_PARAM_LENGTH]
        if key not in searched and shown != value:
            yield Finding(f"{key} is {shown} in its run", value)


def attempts_in_run(trial: TrialEvidence) -> Iterator[Finding]:
    begun = [str(event.attempt) for event in trial.of(Started)]
    if trial.run is not None and begun and trial.run.tags.get("attempt") != begun[-1]:
        yield Finding(f"its run says attempt {trial.run.tags.get('attempt')}", begun[-1])


def storable(trial: TrialEvidence) -> Iterator[Finding]:
    """No infinity that MLflow has turned into a large number; what is not a number is of a trial that diverged alone."""
    for row in dict.fromkeys([*trial.rows, *(trial.run.latest if trial.run else ())]):
        if math.isnan(row.value) and trial.state is not State.DIVERGED:
            yield Finding(f"{row.key} at step {row.step} is not a number", "a number, as it did not diverge")
        elif abs(row.value) >= HIDDEN_INFINITY:
            yield Finding(f"{row.key} at step {row.step} is {row.value}", "a finite number")


def best_value(trial: TrialEvidence) -> float | None:
    """The best of the objective in the history of the trial's run; None where there is none."""
    sign = 1.0 if trial.sweep.mode == "max" else -1.0
    key = safe_name(trial.sweep.metric)
    values = [row.value for row in trial.rows if row.key == key and math.isfinite(row.value)]
    return max(values, key=lambda value: sign * value, default=None)


def best_is_right(sweep: SweepEvidence) -> Iterator[Finding]:
    """The best trial of the closing, and that of the sweep's run, is the one that MLflow's histories give."""
    closed = require_closed(sweep)
    expected = best_configuration(sweep, sweep.best_stored)
    said = closed.best and (closed.best["trial"], closed.best["value"])
    if not is_same_best(said, expected):
        yield Finding(
            f"sweep_closed says {best_text(said)}", f"{best_text(expected)}, by MLflow's histories", "the best trial"
        )
    if expected is None or sweep.parent is None:
        return
    trial, value = sweep.parent.tags.get("best_trial"), _number(sweep.parent.tags.get("best_value"))
    index = expected[0] if trial == f"{sweep.uid}/{expected[0]}" else trial
    if not is_same_best((index, value), expected):
        yield Finding(f"the sweep's run says {trial}, {value}", best_text(expected), "the best trial")


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
