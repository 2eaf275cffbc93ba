"""What each choice of the searched keys came to: its best, its median, and how many diverged."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from orchestrator.analysis.outcomes import Drawn, Outcome, outcomes
from orchestrator.journal.record import SweepRecord
from orchestrator.space import Choice
from orchestrator.space.domains import spell


@dataclass(frozen=True)
class ChoiceSummary:
    """The configurations with one value of a key.

    Args:
        n: how many have ended with a value, or diverged; repeats of one count once.
        best, median: of the objective, over those with a value; None where none has one.
        diverged: how many diverged, or proved infeasible.
    """

    key: str
    value: Any
    n: int
    best: float | None
    median: float | None
    diverged: int

    @property
    def diverged_share(self) -> float:
        return self.diverged / self.n


def choices(record: SweepRecord) -> list[ChoiceSummary]:
    """One for each value of each key that is searched over choices: by key in the order of the search, the best median first."""
    found = outcomes(record)
    drawn = Drawn(record, found)
    sign = -1.0 if record.opened.mode == "max" else 1.0
    rows = []
    for key in drawn.keys:
        groups = _groups(drawn, found, key)
        summaries = [_summary(key, members, record.opened.mode) for members in groups.values()]
        rows += sorted(summaries, key=lambda row: (row.median is None, sign * (row.median or 0.0), str(row.value)))
    return rows


def _groups(drawn: Drawn, found: list[Outcome], key: str) -> dict[tuple[bool, str], list[Outcome]]:
    groups = defaultdict[tuple[bool, str], list[Outcome]](list)
    for outcome in found:
        if isinstance(drawn.domain(outcome, key), Choice):
            value = outcome.params[key]
            groups[isinstance(value, bool), spell(value)].append(outcome)
    return groups


def _summary(key: str, members: list[Outcome], mode: str) -> ChoiceSummary:
    values = [one.value for one in members if one.value is not None]
    best = max if mode == "max" else min
    return ChoiceSummary(
        key=key,
        value=members[0].params[key],
        n=len(members),
        best=best(values) if values else None,
        median=statistics.median(values) if values else None,
        diverged=sum(one.diverged for one in members),
    )
