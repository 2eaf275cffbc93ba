"""Makes the checks of all invariants, and tells what they came to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from orchestrator.base.errors import NotReadyError
from orchestrator.stores.runs import UnavailableError, chunks
from orchestrator.verify import of_store as store
from orchestrator.verify.evidence import SweepEvidence, TrialEvidence
from orchestrator.verify.invariants import INVARIANTS
from orchestrator.verify.rules import (
    Check,
    Invariant,
    NotApplicable,
    NotChecked,
    Note,
    PartlyChecked,
    Report,
    Violation,
)

TRIALS_AT_ONCE = 100
"""So many trials' metrics are held at a time."""

SHOWN_PER_INVARIANT = 10
"""So many violations of one invariant are printed."""

NOTES_SHOWN = 10

UNTRACKED = "tracking=none"
"""Why MLflow is not looked at where it was never meant to be."""


class Checks:
    """All checks of one sweep, made once."""

    def __init__(
        self, sweep: SweepEvidence, why_no_store: str | None, invariants: Sequence[Invariant] = INVARIANTS
    ) -> None:
        self._sweep, self._invariants = sweep, invariants
        self._why_no_store = why_no_store
        self._skipped: dict[int, str] = {}
        self._ran: set[int] = set()
        self.report = Report(without_store=why_no_store if why_no_store != UNTRACKED else None)
        self._check_trials()
        self._check_sweep()
        self._count()

    def _check_trials(self) -> None:
        for trials in chunks(list(self._sweep.trials.values()), TRIALS_AT_ONCE):
            self._read_rows(trials)
            for trial in trials:
                for invariant in self._invariants:
                    checks = (*invariant.trial, *(() if self._why_no_store else invariant.stored_trial))
                    for check in checks:
                        self._run(invariant, check, trial, f"trial {trial.index}")
                if not self._why_no_store:
                    self._sweep.best_stored[trial.index] = store.best_value(trial)
                trial.forget()

    def _read_rows(self, trials: Iterable[TrialEvidence]) -> None:
        reader = self._sweep.reader
        if self._why_no_store or reader is None:
            return
        found = reader.rows([trial.run for trial in trials if trial.run])
        for trial in trials:
            trial.rows = found[trial.run.run_id] if trial.run else []

    def _check_sweep(self) -> None:
        for invariant in self._invariants:
            checks = (*invariant.sweep, *(() if self._why_no_store else invariant.stored_sweep))
            for check in checks:
                self._run(invariant, check, self._sweep, "the sweep")

    def _run(self, invariant: Invariant, check: Check, given: TrialEvidence | SweepEvidence, subject: str) -> None:
        number = invariant.number
        try:
            for finding in check(given):
                if isinstance(finding, Note):
                    self.report.notes.append(finding.text)
                    continue
                violation = Violation(number, finding.subject or subject, finding.found, finding.expected)
                self.report.violations.append(violation)
            self._ran.add(number)
        except NotApplicable:
            return
        except NotChecked as skip:
            self._skipped[number] = str(skip)
            if isinstance(skip, PartlyChecked):
                self._ran.add(number)
        except (UnavailableError, NotReadyError):
            raise
        except Exception as error:  # of the check, whatever it looked at: its data say nothing wrong by that
            what = f"{type(error).__name__}: {error}"[:200]
            self.report.failures.append(f"in check I{number} of {subject} ({check.__name__}: {what}); this is a bug")

    def _count(self) -> None:
        """An invariant is skipped where none of its checks could be made."""
        report = self.report
        report.violations.sort(key=lambda violation: violation.number)
        for invariant in self._invariants:
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


def lines_of(report: Report, invariants: Sequence[Invariant] = INVARIANTS) -> Iterator[str]:
    """A line for each invariant, the violations, and the summary."""
    for invariant in invariants:
        number = invariant.number
        count = sum(violation.number == number for violation in report.violations)
        if number in report.skipped:
            result = f"skipped: {report.skipped[number]}"
        elif count:
            result = f"VIOLATED ({count})"
        else:
            result = "ok" + (f" in part: {report.partly[number]}" if number in report.partly else "")
        yield f"{f'I{number}':<4} {invariant.title}: {result}"
    for invariant in invariants:
        told = [violation for violation in report.violations if violation.number == invariant.number]
        yield from map(str, told[:SHOWN_PER_INVARIANT])
        if len(told) > SHOWN_PER_INVARIANT:
            yield f"I{invariant.number} and {len(told) - SHOWN_PER_INVARIANT} more"
    yield from (f"note: {note}" for note in report.notes[:NOTES_SHOWN])
    if len(report.notes) > NOTES_SHOWN:
        yield f"and {len(report.notes) - NOTES_SHOWN} more notes"
    yield report.summary
