"""Checks the three records of a sweep against each other: the journal, MLflow and the files. Nothing is changed by it.

Every invariant is a line of the table here; its checks lie with the record that they are about. Needs neither torch nor, for
the local store, MLflow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from orchestrator.base.errors import RunningElsewhereError
from orchestrator.base.layout import JOURNAL, LOCK
from orchestrator.base.locks import holder
from orchestrator.base.secrets import redact
from orchestrator.journal.cursor import read_status
from orchestrator.stores.opening import open_reader, store_settings
from orchestrator.stores.runs import RefusedError, UnavailableError, chunks
from orchestrator.verify import of_files as files
from orchestrator.verify import of_journal as journal
from orchestrator.verify import of_predictions as predictions
from orchestrator.verify import of_store as store
from orchestrator.verify.evidence import SweepEvidence, TrialEvidence
from orchestrator.verify.journal_file import JournalFile
from orchestrator.verify.replay import same_suggestions
from orchestrator.verify.rules import Check, Finding, Invariant, NotChecked, PartlyChecked, Report, Violation

__all__ = ["INVARIANTS", "Report", "Violation", "verify"]

TRIALS_AT_ONCE = 100
"""So many trials' metrics are held at a time."""

SHOWN_PER_INVARIANT = 10
"""So many violations of one invariant are printed."""


def _database_is_whole(sweep: SweepEvidence) -> Iterator[Finding]:
    for problem in sweep.journal.problems:
        yield Finding(problem, "a whole database", "the journal")


def _store_is_whole(sweep: SweepEvidence) -> Iterator[Finding]:
    problems = sweep.reader.integrity() if sweep.reader else None
    if problems is None:
        raise NotChecked("the server's database is not at hand")
    for problem in problems:
        yield Finding(problem, "a whole database", "the MLflow store")


def _journal_is_as_before(sweep: SweepEvidence) -> Iterator[Finding]:
    if sweep.journal.changed():
        yield Finding("its rows changed during the check", "the same before and after", "the journal")


def _store_is_as_before(sweep: SweepEvidence) -> Iterator[Finding]:
    changed = sweep.reader.changed() if sweep.reader else None
    if changed is None:
        raise NotChecked("the server's database is not at hand")
    if changed:
        yield Finding("the sweep's runs changed during the check", "the same before and after", "the MLflow store")


INVARIANTS = (
    Invariant(
        1,
        "every trial has one run, every run its trial",
        stored_trial=(store.one_run,),
        stored_sweep=(store.only_known_runs,),
    ),
    Invariant(
        2,
        "every run has ended, as its trial has",
        stored_trial=(store.run_ended,),
        stored_sweep=(store.sweep_run_ended,),
    ),
    Invariant(3, "every trial ends once, and nothing follows", trial=(journal.one_end,)),
    Invariant(4, "the totals are right everywhere", sweep=(journal.totals,), stored_sweep=(store.totals_of_store,)),
    Invariant(
        7,
        "every epoch is there once, as it was reported",
        trial=(journal.epochs_in_order,),
        stored_trial=(store.epochs_as_reported,),
    ),
    Invariant(8, "no epoch is there by halves", stored_trial=(store.whole_epochs,)),
    Invariant(
        9,
        "the newest metrics are the last of the histories",
        stored_trial=(store.newest_is_last,),
        stored_sweep=(store.newest_of_sweep_is_last,),
    ),
    Invariant(
        10,
        "times never go backwards",
        stored_trial=(store.times_in_order,),
        stored_sweep=(store.times_of_sweep_in_order,),
    ),
    Invariant(
        11,
        "settings are those that were suggested",
        trial=(journal.configuration,),
        stored_trial=(store.settings_as_suggested,),
    ),
    Invariant(12, "no trial is there twice", sweep=(journal.distinct,), stored_sweep=(store.distinct_runs,)),
    Invariant(
        13,
        "attempts are counted without gaps",
        trial=(journal.attempts,),
        sweep=(journal.strays,),
        stored_trial=(store.attempts_in_run,),
    ),
    Invariant(14, "nothing is written by an attempt after the next began", trial=(journal.fenced,)),
    Invariant(15, "the sampler suggests the same again", sweep=(same_suggestions,)),
    Invariant(16, "every stored number is finite", stored_trial=(store.storable,)),
    Invariant(17, "the best trial is the best", sweep=(journal.best_by_journal,), stored_sweep=(store.best_is_right,)),
    Invariant(18, "the best value is that of the kept weights", trial=(journal.kept_value, files.kept_best)),
    Invariant(21, "scores follow from the stored predictions", trial=(predictions.recomputed_scores,)),
    Invariant(
        22,
        "files are whole and unchanged",
        trial=(files.declared_files,),
        sweep=(files.no_leftovers,),
        stored_trial=(files.stored_files,),
    ),
    Invariant(23, "predictions are of the same examples in the same order", trial=(predictions.predictions_fit,)),
    Invariant(24, "no more is kept than should be", sweep=(files.few_checkpoints, files.few_weights)),
    Invariant(28, "the databases are whole", sweep=(_database_is_whole,), stored_sweep=(_store_is_whole,)),
    Invariant(29, "checking changes nothing", sweep=(_journal_is_as_before,), stored_sweep=(_store_is_as_before,)),
)


def verify(folder: Path, *, say: Callable[[str], None] | None = None, own: bool = False) -> Report:
    """Checks every invariant of the sweep in `folder`, and tells each one's result as a line.

    Args:
        own: the caller is the sweep's driver, so that its lock is no reason to refuse.

    Raises:
        RunningElsewhereError: the sweep is running.
        NotReadyError: there is no journal, or it cannot be read.
    """
    if not own and (driver := holder(folder / LOCK)):
        raise RunningElsewhereError(f"{driver} runs {folder.name} now; verify it when it has ended")
    with contextlib.ExitStack() as stack:
        sweep = SweepEvidence(folder, stack.enter_context(contextlib.closing(JournalFile(folder / JOURNAL))))
        why_not = _look_at_store(sweep, stack)
        if say:
            runs = "not looked at" if sweep.runs is None else f"{len(sweep.runs)} runs"
            say(f"{sweep.uid}: {len(sweep.journal.entries)} events, {len(sweep.files)} files, MLflow: {runs}")
        try:
            report = _Checks(sweep, why_not).report
        except UnavailableError as error:  # the store went away meanwhile
            report = _Checks(SweepEvidence(folder, sweep.journal), redact(str(error))).report
    if say:
        for line in _lines(report):
            say(line)
    return report


def _look_at_store(sweep: SweepEvidence, stack: contextlib.ExitStack) -> str | None:
    """Opens the store and reads the sweep's runs; why it is not looked at, where it is not."""
    status = read_status(sweep.folder)
    if sweep.opened.tracking.get("kind") == "none" and not status.shipped:
        return "tracking=none"
    waiting = sweep.journal.entries[-1].seq - status.shipped
    if waiting > 0 or (sweep.closed is None and not status.ended):
        what = f"{waiting} events wait for MLflow" if waiting > 0 else "MLflow has open runs of the sweep"
        return f"{what}; run `orchestrator sync {sweep.folder.name}`"
    settings = store_settings(sweep.opened, sweep.folder)
    try:
        reader = open_reader(settings, settings.get("experiment") or sweep.opened.name)
        sweep.reader = stack.enter_context(contextlib.closing(reader))
        sweep.runs = reader.runs(sweep.uid)
        if sweep.parent is not None:
            sweep.memo["rows of the sweep's run"] = reader.rows([sweep.parent])[sweep.parent.run_id]
    except (UnavailableError, RefusedError) as error:
        sweep.runs = None
        return redact(str(error))
    return None


class _Checks:
    """All checks of one sweep, made once."""

    def __init__(self, sweep: SweepEvidence, why_no_store: str | None) -> None:
        self._sweep = sweep
        self._why_no_store = why_no_store
        self._skipped: dict[int, str] = {}
        self._ran: set[int] = set()
        self.report = Report()
        self._check_trials()
        self._check_sweep()
        self._count()

    def _check_trials(self) -> None:
        for trials in chunks(list(self._sweep.trials.values()), TRIALS_AT_ONCE):
            self._read_rows(trials)
            for trial in trials:
                for invariant in INVARIANTS:
                    checks = (*invariant.trial, *(() if self._why_no_store else invariant.stored_trial))
                    for check in checks:
                        self._run(invariant, check, trial, f"trial {trial.index}")
                if not self._why_no_store:
                    self._sweep.best_stored[trial.index] = store.best_value(trial)
                trial.rows = []
                trial.__dict__.pop("epochs", None)

    def _read_rows(self, trials: Iterable[TrialEvidence]) -> None:
        reader = self._sweep.reader
        if self._why_no_store or reader is None:
            return
        found = reader.rows([trial.run for trial in trials if trial.run])
        for trial in trials:
            trial.rows = found[trial.run.run_id] if trial.run else []

    def _check_sweep(self) -> None:
        for invariant in INVARIANTS:
            checks = (*invariant.sweep, *(() if self._why_no_store else invariant.stored_sweep))
            for check in checks:
                self._run(invariant, check, self._sweep, "the sweep")

    def _run(self, invariant: Invariant, check: Check, given: TrialEvidence | SweepEvidence, subject: str) -> None:
        number = invariant.number
        try:
            for finding in check(given):
                violation = Violation(number, finding.subject or subject, finding.found, finding.expected)
                self.report.violations.append(violation)
            self._ran.add(number)
        except NotChecked as skip:
            self._skipped[number] = str(skip)
            if isinstance(skip, PartlyChecked):
                self._ran.add(number)

    def _count(self) -> None:
        """An invariant is skipped where none of its checks could be made."""
        report = self.report
        report.violations.sort(key=lambda violation: violation.number)
        for invariant in INVARIANTS:
            number = invariant.number
            stored = invariant.stored_trial or invariant.stored_sweep
            reason = self._skipped.get(number) or (self._why_no_store if stored else None)
            if reason is None:
                report.checked.append(number)
            elif invariant.needs_store or number not in self._ran:
                report.skipped[number] = reason
            else:
                report.checked.append(number)
                report.partly[number] = reason


def _lines(report: Report) -> Iterator[str]:
    """A line for each invariant, the violations, and the summary."""
    for invariant in INVARIANTS:
        number = invariant.number
        count = sum(violation.number == number for violation in report.violations)
        if number in report.skipped:
            result = f"skipped: {report.skipped[number]}"
        elif count:
            result = f"VIOLATED ({count})"
        else:
            result = "ok" + (f" in part: {report.partly[number]}" if number in report.partly else "")
        yield f"{f'I{number}':<4} {invariant.title}: {result}"
    for invariant in INVARIANTS:
        told = [violation for violation in report.violations if violation.number == invariant.number]
        yield from map(str, told[:SHOWN_PER_INVARIANT])
        if len(told) > SHOWN_PER_INVARIANT:
            yield f"I{invariant.number} and {len(told) - SHOWN_PER_INVARIANT} more"
    yield report.summary
