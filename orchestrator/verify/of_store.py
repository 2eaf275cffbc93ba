"""What MLflow says against what the journal says: the same trials, names, epochs, numbers, settings, tags, times and ends."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import JOURNAL
from orchestrator.base.records import State
from orchestrator.journal.events import Started
from orchestrator.journal.file import Reader
from orchestrator.journal.finding import sweeps_in
from orchestrator.journal.place import read_identity
from orchestrator.stores.opening import local_store, store_settings
from orchestrator.stores.runs import (
    HOLDER_TAG,
    STORE_ID_TAG,
    Dataset,
    Metric,
    StoredExperiment,
    StoredRun,
    local_folder,
)
from orchestrator.verify.evidence import SweepEvidence, TrialEvidence
from orchestrator.verify.expected import NOTE, ExpectedRun, allowed_name, is_finite
from orchestrator.verify.of_journal import best_configuration, best_text, is_same_best, require_closed, short
from orchestrator.verify.rules import Finding, NotChecked, Note

HIDDEN_INFINITY = 1.797e308
"""MLflow stores an infinity as the largest number that there is."""

OWN_RUNS = ("comparison", "ensemble")
"""Kinds of runs beside a sweep's that a `published` event vouches for."""

OUR_TAGS = {
    *(
        "kind",
        "sweep_uid",
        "trial_uid",
        "trial",
        "config_index",
        "repeat",
        "attempt",
        "reason",
        "retry_reason",
        "detail",
    ),
    HOLDER_TAG,
    *(
        "diverged_at",
        "init_health",
        "init_health_layer",
        "restarted_from_scratch",
        "best_epoch",
        "best_trial",
        "best_value",
        "metric",
        "mode",
        "resumes",
        "journal",
    ),
    *("mlflow.runName", "mlflow.user", "mlflow.parentRunId"),
    *("mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit"),
}
OUR_PREFIXES = ("ran_on.", "sha256.")
"""What a person may add to a run: tags of any other name, and text after a description of ours. Nothing else."""

CONSTANT_COLUMNS = {
    "source_type": "UNKNOWN",
    "source_name": "",
    "entry_point_name": "",
    "source_version": "",
    "deleted_time": None,
}
"""What a local store says of every run of ours."""


def one_run(trial: TrialEvidence) -> Iterator[Finding]:
    if len(trial.runs) != 1:
        yield Finding(f"{len(trial.runs)} active runs with its trial_uid", "1")


def only_known_runs(sweep: SweepEvidence) -> Iterator[Finding]:
    """No active run of the sweep, or of no sweep, is of a trial that the journal does not know; one run is the sweep's own.

    A comparison or an ensemble is known by what was published of it.
    """
    known = {trial.uid for trial in sweep.trials.values()}
    own = [run for run in _active(sweep) if run.tags.get("kind") == "sweep"]
    if len(own) != 1:
        yield Finding(f"{len(own)} active runs of kind sweep", "1")
    for run in _active(sweep):
        kind, above = run.tags.get("kind"), run.tags.get("mlflow.parentRunId")
        if kind in OWN_RUNS and run.name in sweep.of_others:
            yield from _is_as_published(run, sweep)
        elif kind != "sweep" and run.uid not in known:
            yield Finding(f"run {run.run_id} has trial_uid {run.uid}", "one that the journal knows", f"run {run.name}")
        elif own and kind == "trial" and above != own[0].run_id:
            yield Finding(f"run {run.run_id} lies below run {above}", f"below {own[0].run_id}", f"run {run.name}")


def _is_as_published(run: StoredRun, sweep: SweepEvidence) -> Iterator[Finding]:
    """The texts of a run that no trial stands behind."""
    for key, event in sweep.published[run.name].items():
        if event.text is None:
            continue
        shown = run.tags.get(allowed_name(key))
        if shown is None or hashlib.sha256(shown.encode()).hexdigest() != event.sha256:
            yield Finding(f"{key} is {_cut(shown)}", f"a text of SHA-256 {event.sha256}", f"run {run.name}")


def _active(sweep: SweepEvidence) -> list[StoredRun]:
    return [run for run in sweep.runs or () if not run.deleted]


def distinct_runs(sweep: SweepEvidence) -> Iterator[Finding]:
    """No two active runs are of one trial."""
    for uid, count in Counter(run.uid for run in _active(sweep)).items():
        if uid is not None and count > 1:
            yield Finding(f"{count} active runs of {uid}", "1", "the runs")


def run_ended(trial: TrialEvidence) -> Iterator[Finding]:
    """The run has ended as the trial has."""
    if trial.run is not None:
        yield from _same_end(trial.run, trial.expected)


def sweep_run_ended(sweep: SweepEvidence) -> Iterator[Finding]:
    if sweep.parent is not None:
        yield from _same_end(sweep.parent, sweep.expected)


def _same_end(run: StoredRun, expected: ExpectedRun) -> Iterator[Finding]:
    if run.status != expected.status:
        yield Finding(f"its run is {run.status}", expected.status)
    if run.tags.get("reason") != expected.tags["reason"]:
        yield Finding(f"its run's reason is {run.tags.get('reason')}", expected.tags["reason"])


def times(trial: TrialEvidence) -> Iterator[Finding]:
    if trial.run is not None:
        yield from _same_times(trial.run, trial.expected)


def times_of_sweep(sweep: SweepEvidence) -> Iterator[Finding]:
    if sweep.parent is not None:
        yield from _same_times(sweep.parent, sweep.expected)


def _same_times(run: StoredRun, expected: ExpectedRun) -> Iterator[Finding]:
    if run.start_ms != expected.start_ms:
        yield Finding(f"its run began at {run.start_ms}", f"{expected.start_ms} (milliseconds since 1970)")
    if run.end_ms != expected.end_ms:
        yield Finding(f"its run ended at {run.end_ms}", f"{expected.end_ms} (milliseconds since 1970)")


def clock(sweep: SweepEvidence) -> Iterator[Finding | Note]:
    """Events are in the order of their numbers; a clock that was set back is told, and wrong in nothing."""
    before = sweep.journal.entries[0]
    for entry in sweep.journal.entries:
        if entry.time_ms < before.time_ms:
            back_s = (before.time_ms - entry.time_ms) / 1000
            yield Note(f"the clock was set back by {back_s:,.1f} s between events {before.seq} and {entry.seq}")
        before = entry


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


def rows_as_reported(trial: TrialEvidence) -> Iterator[Finding]:
    """Each metric has one row an epoch, with the time and the value that the journal reports, and one row at the end."""
    yield from _same_rows(trial.rows, trial.expected.rows if trial.run else ())


def rows_of_sweep(sweep: SweepEvidence) -> Iterator[Finding]:
    """The sweep's run has the best value at each trial that improved it, and the totals at each closing."""
    if sweep.parent is not None:
        yield from _same_rows(sweep.rows, sweep.expected.rows)


def _same_rows(found: Sequence[Metric], expected: Iterable[Metric]) -> Iterator[Finding]:
    by_key, due_by_key = _by_key(found), _by_key(expected)
    for key in sorted({*by_key, *due_by_key}):
        rows, due = by_key.get(key, []), due_by_key.get(key, [])
        steps, due_steps = [row.step for row in rows], [row.step for row in due]
        if rows == due:
            continue
        if steps != due_steps:
            yield Finding(f"{key} has the steps {short(steps) or 'none'}", short(due_steps) or "none")
        else:
            row, right = next((row, right) for row, right in zip(rows, due, strict=True) if row != right)
            yield Finding(f"{key} at step {row.step} is {row[2:]}", f"{right[2:]} (time, value)")


def _by_key(rows: Iterable[Metric]) -> dict[str, list[Metric]]:
    found: dict[str, list[Metric]] = {}
    for row in sorted(rows):
        found.setdefault(row.key, []).append(row)
    return found


def whole_epochs(trial: TrialEvidence) -> Iterator[Finding]:
    """The metrics of an epoch are there together, or not at all."""
    there = {(row.key, row.step) for row in trial.rows}
    for epoch in trial.epochs:
        finite = {allowed_name(key) for key, value in epoch["metrics"].items() if is_finite(value)}
        lacking = {key for key in finite if (key, epoch["epoch"]) not in there}
        if lacking and lacking != finite:
            yield Finding(f"epoch {epoch['epoch']} lacks {', '.join(sorted(lacking))}", "all its metrics, or none")


def newest_is_last(trial: TrialEvidence) -> Iterator[Finding]:
    if trial.run is not None:
        yield from _newest(trial.run, trial.rows)


def newest_of_sweep_is_last(sweep: SweepEvidence) -> Iterator[Finding]:
    if sweep.parent is not None:
        yield from _newest(sweep.parent, sweep.rows)


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


def params(trial: TrialEvidence) -> Iterator[Finding]:
    """The run shows every searched setting, and those fixed ones that there is room for."""
    if trial.run is not None:
        must = {allowed_name(key) for key in trial.suggested.params}
        yield from _same_entries("param", trial.run.params, trial.expected.params, must, trial.expected.exact)


def params_of_sweep(sweep: SweepEvidence) -> Iterator[Finding]:
    if sweep.parent is not None:
        expected = sweep.expected
        yield from _same_entries("param", sweep.parent.params, expected.params, {"trials"}, expected.exact)


def tags(trial: TrialEvidence) -> Iterator[Finding]:
    """The run has the tags that the journal gives it, the name and the maker that its columns say, and what a person added."""
    if trial.run is not None:
        yield from _same_tags(trial.run, trial.expected, trial.sweep)


def tags_of_sweep(sweep: SweepEvidence) -> Iterator[Finding]:
    if sweep.parent is not None:
        yield from _same_tags(sweep.parent, sweep.expected, sweep)


def _same_tags(run: StoredRun, expected: ExpectedRun, sweep: SweepEvidence) -> Iterator[Finding]:
    above = {} if expected.uid == sweep.uid or sweep.parent is None else {"mlflow.parentRunId": sweep.parent.run_id}
    due = expected.tags | above | {"mlflow.user": run.user}
    if description := due.pop(NOTE, None):
        yield from _same_description(run.tags.get(NOTE), description)
    for key, values in expected.may_have.items():
        if key not in due and run.tags.get(key) in values:
            due[key] = run.tags[key]
    published = {allowed_name(key) for key in sweep.published.get(expected.uid, ())} - {NOTE}
    ours = {key: value for key, value in run.tags.items() if is_ours(key) or key in published}
    if expected.uid == sweep.uid:
        ours.pop("journal", None)  # is the journal's own invariant
        if sweep.own_store is None:
            ours.pop(HOLDER_TAG, None)  # a store elsewhere is told who ships
    yield from _same_entries("tag", ours, due, {"kind", "reason"}, expected.exact)
    if run.name != expected.name:
        yield Finding(f"its run is called {run.name!r}", repr(expected.name))
    if not _same_data(run.datasets, expected.datasets):
        yield Finding(f"its run was given {_cut(repr(run.datasets))}", _cut(repr(expected.datasets)))
    for column, value in run.columns.items():
        if value != CONSTANT_COLUMNS[column]:
            yield Finding(f"{column} of its run is {value!r}", repr(CONSTANT_COLUMNS[column]))


def _same_data(found: Sequence[Dataset], due: Sequence[Dataset]) -> bool:
    """Whether a run was given these data sets, whatever else the source of each says.

    MLflow keeps one row for all runs of an experiment with the same digest: that of the first sweep, whose images may have lain
    elsewhere, and whose version may have had fewer arguments.
    """
    if len(found) != len(due):
        return False
    pairs = zip(found, due, strict=True)
    return all(replace(one, source=other.source) == other and _target(one) == _target(other) for one, other in pairs)


def _target(dataset: Dataset) -> object:
    """What its source says that it is made by; None where that is no source of ours."""
    try:
        spec = json.loads(dataset.source)
    except (TypeError, ValueError, RecursionError):
        return None
    return spec.get("_target_") if isinstance(spec, dict) else None


def is_ours(key: str) -> bool:
    """Whether a tag is one that we write; a person's own are any others."""
    return key in OUR_TAGS or key.startswith(OUR_PREFIXES)


def _same_description(shown: str | None, published: str) -> Iterator[Finding]:
    """A person may go on where the description ends."""
    if not (shown or "").startswith(published.rstrip()):
        yield Finding(f"its description is {_cut(shown)}", f"{_cut(published)}, as published, and whatever follows")


def _same_entries(
    what: str, found: Mapping[str, str], expected: Mapping[str, str], must: set[str], exact: bool
) -> Iterator[Finding]:
    for key in sorted({*found, *expected}):
        ours, right = found.get(key), expected.get(key)
        if ours != right and not (ours is None and not exact and key not in must):
            yield Finding(f"the {what} {key} is {_cut(ours)}", _cut(right))


def _cut(text: str | None) -> str:
    if text is None:
        return "missing"
    return repr(text) if len(text) <= 120 else f"{text[:120]!r}... ({len(text)} letters)"


def attempts_in_run(trial: TrialEvidence) -> Iterator[Finding]:
    begun = [str(entry.attempt) for entry in trial.of(Started)]
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
    key = allowed_name(trial.sweep.metric)
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
    index: Any = expected[0] if trial == f"{sweep.uid}/{expected[0]}" else trial
    if not is_same_best((index, value), expected):
        yield Finding(f"the sweep's run says {trial}, {value}", best_text(expected), "the best trial")


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def experiment(sweep: SweepEvidence) -> Iterator[Finding]:
    """The experiment is there, and the sweep's runs lie in it and keep their files below its folder."""
    found = sweep.reader.experiment() if sweep.reader else None
    if found is None:
        yield Finding("there is no experiment of its name", "the one that its runs lie in", "the experiment")
        return
    if found.stage != "active":
        yield Finding(f"it is {found.stage}", "active", f"experiment {found.name}")
    if found.created_ms is None or found.updated_ms is None or found.updated_ms < found.created_ms:
        yield Finding(
            f"it was made at {found.created_ms} and changed at {found.updated_ms}",
            "two times, the second one not before the first",
            f"experiment {found.name}",
        )
    yield from _own_place(sweep, found)
    for run in _active(sweep):
        if run.experiment_id != found.experiment_id:
            yield Finding(f"it lies in experiment {run.experiment_id}", found.experiment_id, f"run {run.name}")
        place = f"{found.artifact_location.rstrip('/')}/{run.run_id}/artifacts"
        if run.artifact_uri != place:
            yield Finding(f"its files lie at {run.artifact_uri}", place, f"run {run.name}")


def _own_place(sweep: SweepEvidence, found: StoredExperiment) -> Iterator[Finding]:
    """In the store of its own runs folder an experiment has that folder's identity, and its files lie where they belong."""
    runs_dir = sweep.own_store
    if runs_dir is None:
        return
    identity, tag = read_identity(runs_dir), found.tags.get(STORE_ID_TAG)
    if identity and tag not in (None, identity.id):
        yield Finding(f"its tag {STORE_ID_TAG} is {_cut(tag)}", _cut(identity.id), f"experiment {found.name}")
    settings = store_settings(sweep.opened, sweep.folder)
    root = Path(settings.get("artifacts") or local_store(runs_dir)["artifacts"])
    place = local_folder(sweep.current_address(found.artifact_location))
    if place is None or (
        place.resolve() != (root / found.experiment_id).resolve() and not _is_artifacts(place, runs_dir)
    ):
        yield Finding(
            f"its files lie at {found.artifact_location}", f"{root / found.experiment_id}", f"experiment {found.name}"
        )


def _is_artifacts(place: Path, runs_dir: Path) -> bool:
    """Whether another sweep of the folder was launched with these artifacts: the first one of an experiment decides."""
    for folder in sweeps_in(runs_dir):
        with contextlib.suppress(NotReadyError), contextlib.closing(Reader(folder / JOURNAL)) as reader:
            artifacts = store_settings(reader.opened(), folder).get("artifacts")
            if artifacts and Path(artifacts).resolve() == place.parent.resolve():
                return True
    return False


def same_journal(sweep: SweepEvidence) -> Iterator[Finding]:
    """The journal is the one whose digest the sweep's run carries; only what came since is not in it."""
    if sweep.parent is None:
        return
    tag = sweep.parent.tags.get("journal")
    if tag is None:
        if not math.isfinite(sweep.publishes_since):
            raise NotChecked("an earlier version wrote no digest of the journal")
        yield Finding("its run has no digest of the journal", "one of all events", "the sweep's run")
        return
    last, _, digest = tag.partition(" ")
    if not last.isdecimal() or sweep.journal.digest(int(last)) != digest:
        yield Finding(f"the journal is not the one of {tag!r:.100}", "the events that were shipped", "the journal")
    elif int(last) != sweep.journal.entries[-1].seq:
        yield Finding(f"the digest ends with event {last}", f"event {sweep.journal.entries[-1].seq}", "the sweep's run")
