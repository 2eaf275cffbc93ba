"""What an invariant is, what breaks it, and what a check came to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from orchestrator.base.errors import EXIT_BUG, EXIT_NOT_READY, EXIT_OK, EXIT_VIOLATION


class Finding(NamedTuple):
    """What one check found wrong: of the trial that it looked at, or of what `subject` names."""

    found: str
    expected: str
    subject: str | None = None


class Note(NamedTuple):
    """What is worth telling and not wrong."""

    text: str


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold."""

    number: int
    subject: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"I{self.number} {self.subject}: {self.found}; expected {self.expected}"


class NotChecked(Exception):  # noqa: N818 - nothing is wrong
    """A check cannot be made; the message says why."""


class PartlyChecked(NotChecked):
    """A check was made of a part alone, which the message names."""


class NotApplicable(Exception):  # noqa: N818 - nothing is wrong
    """There is nothing that a check could look at, which is neither checked nor left out."""


Check = Callable[[Any], Iterable[Finding | Note]]


@dataclass(frozen=True)
class Invariant:
    """One invariant and its checks, each given a `SweepEvidence`, or each of its trials as a `TrialEvidence`.

    Args:
        trial, sweep: checks that need the journal and the files alone.
        stored_trial, stored_sweep: checks that need MLflow, too.
    """

    number: int
    title: str
    trial: Sequence[Check] = ()
    sweep: Sequence[Check] = ()
    stored_trial: Sequence[Check] = ()
    stored_sweep: Sequence[Check] = ()

    @property
    def needs_store(self) -> bool:
        """Whether nothing of it can be checked without MLflow."""
        return not (self.trial or self.sweep)


@dataclass
class Report:
    """What the checks came to.

    Args:
        checked: the numbers of the invariants that were checked.
        skipped: number -> why it was not.
        partly: number -> what of it was left out.
        notes: what is worth telling and not wrong.
        failures: what went wrong within a check: bugs of ours, and nothing about the sweep.
        without_store: why MLflow was not looked at, where it should have been.
        wanted: the numbers that the caller asked for by name, `--deep`.
    """

    checked: list[int] = field(default_factory=list)
    skipped: dict[int, str] = field(default_factory=dict)
    partly: dict[int, str] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    without_store: str | None = None
    wanted: frozenset[int] = frozenset()

    @property
    def ok(self) -> bool:
        """Whether nothing wrong was found; it may be that not everything was looked at."""
        return not self.violations and not self.failures

    @property
    def exit_code(self) -> int:
        """Of the command: a violation, a bug of ours, or what should have been looked at and could not be."""
        if self.violations:
            return EXIT_VIOLATION
        if self.failures:
            return EXIT_BUG
        missed = self.wanted & {*self.skipped, *self.partly}
        return EXIT_NOT_READY if self.without_store or missed else EXIT_OK

    @property
    def violated(self) -> list[int]:
        """The numbers of the invariants that do not hold."""
        return sorted({violation.number for violation in self.violations})

    @property
    def summary(self) -> str:
        """`verified: 22/22`, with what was skipped counted apart."""
        holding = len(set(self.checked) - set(self.violated))
        text = f"verified: {holding}/{len(self.checked)}"
        if self.skipped:
            reasons = dict.fromkeys(self.skipped.values())
            told = "; ".join(
                f"{', '.join(f'I{number}' for number in self.skipped if self.skipped[number] == reason)}: {reason}"
                for reason in reasons
            )
            text += f" ({len(self.skipped)} skipped: {told})"
        if self.notes:
            text += f"; {len(self.notes)} {'note' if len(self.notes) == 1 else 'notes'}"
        if self.failures:
            text += f"; VERIFY ITSELF FAILED: {'; '.join(self.failures)}"
        return f"NOT VERIFIED AGAINST MLFLOW: {self.without_store}; {text}" if self.without_store else text
