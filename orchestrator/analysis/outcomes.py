"""What each configuration came to, and the domain that each of its values was drawn from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.base.recorded import read_plan
from orchestrator.base.records import CAN_BE_BEST, State
from orchestrator.journal.record import Score, SweepRecord, TrialRecord, is_number
from orchestrator.space import Choice, Domain, Interval, Space
from orchestrator.space.domains import spell

NO_GOOD = frozenset({State.DIVERGED, State.INFEASIBLE})

FEW_VALUES = 6
LOG_FACTOR = 100
"""Without a recorded space: up to so many different integers are choices, and numbers that span this factor are logarithmic."""


@dataclass(frozen=True)
class Outcome:
    """One configuration whose trials have ended. Its repeats count once.

    Args:
        trial: the first of its trials.
        value: the mean of their objectives, as the ranking has it; None where none has one.
        diverged: whether one of them diverged, or proved infeasible: such a configuration counts as the worst. It answers
            "what does it take to be good?", and leaving it out would hide what makes trials diverge.
    """

    trial: int
    config_index: int
    params: Mapping[str, Any]
    value: float | None
    diverged: bool


def outcomes(record: SweepRecord) -> list[Outcome]:
    """Those of all configurations with a value, or that diverged; by the number of the first trial.

    Left out are trials that run, and those that failed or were cancelled without a value: they say nothing of their settings.
    """
    by_config = defaultdict[int, list[TrialRecord]](list)
    for trial in sorted(record.trials.values(), key=lambda trial: trial.index):
        if trial.ended:
            by_config[trial.config_index].append(trial)
    found = []
    for number, trials in by_config.items():
        score = Score(number)
        for trial in trials:
            if trial.state in CAN_BE_BEST and is_number(trial.value):
                score.values[trial.index] = float(trial.value)
                score.judged = trial.index if trial.judged else score.judged
        diverged = any(trial.state in NO_GOOD for trial in trials)
        if score.values or diverged:
            value = score.mean if score.values else None
            found.append(Outcome(trials[0].index, number, trials[0].params, value, diverged))
    return sorted(found, key=lambda outcome: outcome.trial)


def losses(found: Sequence[Outcome], mode: str) -> list[float]:
    """One number an outcome, smaller is better; all that diverged share the largest, infinity."""
    sign = -1.0 if mode == "max" else 1.0
    return [float("inf") if one.diverged or one.value is None else sign * one.value for one in found]


class Drawn:
    """Which domain a searched value was drawn from: the recorded one, or where none is recorded one made of the values."""

    def __init__(self, record: SweepRecord, found: Sequence[Outcome]) -> None:
        self._spaces = list(_spaces(record))
        self._found = found
        self._made: dict[str, Domain | None] = {}
        searched = dict.fromkeys(key for _, space in reversed(self._spaces) for key in space.keys)
        self.keys = list(dict.fromkeys([*searched, *(key for one in found for key in one.params)]))

    def domain(self, outcome: Outcome, key: str) -> Domain | None:
        """None where the key was not searched for this configuration."""
        if key not in outcome.params:
            return None
        for first, space in reversed(self._spaces):
            if key in space.keys and outcome.config_index >= first:
                for parameter in space.parameters:
                    if parameter.key == key and parameter.active(outcome.params):
                        return parameter.domain if parameter.domain.contains(outcome.params[key]) else None
        if key not in self._made:
            self._made[key] = self._observed(key)
        return self._made[key]

    def _observed(self, key: str) -> Domain | None:
        values = [one.params[key] for one in self._found if key in one.params]
        return _domain_of(list({(isinstance(value, bool), spell(value)): value for value in values}.values()))


def _spaces(record: SweepRecord) -> Iterator[tuple[int, Space]]:
    """(the first configuration drawn from it, the space), in the order of time. A plan that cannot be read gives none."""
    plans = [(0, record.opened.plan), *((event.first_config_index, event.plan) for event in record.resumes)]
    for first, text in plans:
        if not text:
            continue
        try:
            yield first, Space.decode(read_plan(text)["space"])
        except (ValueError, KeyError, TypeError):
            continue


def _domain_of(values: Sequence[Any]) -> Domain | None:
    """A domain for values that no space tells of; of mixed ones, their texts."""
    numbers = [value for value in values if is_number(value) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        return Choice(tuple(dict.fromkeys(map(str, values))))
    if len(values) > FEW_VALUES or any(isinstance(value, float) for value in values):
        low, high = min(numbers), max(numbers)
        whole = all(isinstance(value, int) for value in values)
        if low < high:
            return Interval(low, high, log=low > 0 and high / low >= LOG_FACTOR, integer=whole)
    return Choice(tuple(values)) if values else None
