"""Why trials went wrong: those that failed, diverged or did not fit, grouped by their reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.analysis.health import unhealthy
from orchestrator.base.records import State
from orchestrator.journal.record import SweepRecord, TrialRecord

KINDS = (State.FAILED, State.DIVERGED, State.INFEASIBLE)
LONGEST = 200
NUMBER = re.compile(r"0x[0-9a-f]+|(?<![A-Za-z_])[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?|\b(?:nan|inf)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Cause:
    """Trials that ended in one way for one reason.

    Args:
        kind: failed, diverged or infeasible.
        example: the reason of the first trial, on one line, cut.
        trials: their numbers.
        alike: whether the reason of all is the example, to the digit.
        unhealthy: how many of them began with an initialization that is not ok, by what it is.
    """

    kind: State
    example: str
    trials: list[int]
    alike: bool = True
    unhealthy: Mapping[str, int] = field(default_factory=dict)


def causes(record: SweepRecord) -> list[Cause]:
    """All causes: failed, diverged, infeasible, and of each those of most trials first.

    Reasons that differ in numbers alone are one: "train/loss is nan at step 37" and "... inf at step 105".
    """
    found: dict[tuple[State, str], list[tuple[int, str]]] = {}
    for trial in sorted(record.trials.values(), key=lambda trial: trial.index):
        if trial.state in KINDS:
            reason = _reason(trial)
            found.setdefault((trial.state, NUMBER.sub("#", reason)), []).append((trial.index, reason))
    every = [
        Cause(
            state,
            told[0][1],
            [index for index, _ in told],
            alike=len({reason for _, reason in told}) == 1,
            unhealthy=unhealthy(record.trials[index] for index, _ in told),
        )
        for (state, _), told in found.items()
    ]
    return sorted(every, key=lambda cause: (KINDS.index(cause.kind), -len(cause.trials)))


def _reason(trial: TrialRecord) -> str:
    """In one line; of a failure without a reason, what its traceback ends with."""
    lines = (trial.reason or "").strip().splitlines() if trial.reason != trial.state else []
    lines = lines or (trial.error or "").strip().splitlines()[-1:]
    text = " ".join(lines[0].split()) if lines else "no reason is recorded"
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
