"""Configurations and their trials: which repeats are still to run, and what the sampler learns once all of them have ended."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.base.records import CAN_BE_BEST, State, better
from orchestrator.journal.record import TrialRecord
from orchestrator.scheduling.samplers import Sampler


class Configurations:
    """The repeats of every configuration suggested so far.

    Args:
        sampler: is told each configuration's outcome: the mean over its repeats. A diverged or infeasible trial counts with the
            worst value seen in the sweep, a failed one not at all. Test metrics play no part.
        repeat: trials of each configuration.
        fits: whether the sampler's space holds these parameters; what does not fit is not told to it.

    Attributes:
        count: of configurations: one more than the highest number.
        due: what is to be suggested next: (the first trial of a configuration, number of the repeat).
    """

    def __init__(self, sampler: Sampler, repeat: int, fits: Callable[[Mapping[str, Any]], bool]) -> None:
        self._sampler, self._repeat, self._fits = sampler, repeat, fits
        self._trials: defaultdict[int, list[TrialRecord]] = defaultdict(list)
        self._observed: set[int] = set()
        self._worst: float | None = None
        self.count = 0
        self.due: deque[tuple[TrialRecord, int]] = deque()

    def recall(self, trial: TrialRecord) -> None:
        """Tells the sampler of a suggestion made before it was started."""
        if trial.repeat == 0 and self._fits(trial.params):
            self._sampler.recall(trial.config_index, trial.params)

    def add(self, trial: TrialRecord) -> None:
        """Takes a trial that was suggested."""
        self._trials[trial.config_index].append(trial)
        self.count = max(self.count, trial.config_index + 1)
        for first, repeat in self.due:
            if (first.config_index, repeat) == (trial.config_index, trial.repeat):
                self.due.remove((first, repeat))
                break

    def ask_for_repeats(self, first: TrialRecord) -> None:
        """The other repeats of a configuration are due."""
        there = {trial.repeat for trial in self._trials[first.config_index]}
        self.due.extend((first, repeat) for repeat in range(1, self._repeat) if repeat not in there)

    def ask_for_more(self, repeats_of: Mapping[int, int]) -> None:
        """Of single configurations more trials are due: the second ones of all of them first, then the third ones, ...

        Args:
            repeats_of: configuration -> how many trials of it there are to be. The sampler is told nothing of those beyond
                `repeat`, so that it suggests what it would have without them.
        """
        waiting = {(first.config_index, repeat) for first, repeat in self.due}
        for repeat in range(1, max(repeats_of.values(), default=1)):
            for config_index, repeats in sorted(repeats_of.items()):
                trials = self._trials.get(config_index, [])
                there = {trial.repeat for trial in trials}
                if 0 in there and repeat < repeats and repeat not in there and (config_index, repeat) not in waiting:
                    self.due.append((next(trial for trial in trials if trial.repeat == 0), repeat))

    def end(self, trial: TrialRecord, mode: str) -> None:
        """Takes a trial that has ended; the sampler is told once the last of its configuration has."""
        value = _value(trial)
        worse = "min" if mode == "max" else "max"
        if value is not None and better(worse, value, self._worst):
            self._worst = value
        config_index = trial.config_index
        trials = [one for one in self._trials[config_index] if one.repeat < self._repeat]
        if config_index in self._observed or not all(trial.ended for trial in trials):
            return
        if any(first.config_index == config_index and repeat < self._repeat for first, repeat in self.due):
            return
        self._observed.add(config_index)
        if self._fits(trial.params):
            values = [value for trial in trials if (value := self._value_to_tell(trial)) is not None]
            mean = statistics.fmean(values) if values else None
            self._sampler.observe(config_index, dict(trials[0].params), mean)

    def _value_to_tell(self, trial: TrialRecord) -> float | None:
        return self._worst if trial.state in (State.DIVERGED, State.INFEASIBLE) else _value(trial)


def _value(trial: TrialRecord) -> float | None:
    """The value of a trial that can be best."""
    value = trial.value
    if trial.state not in CAN_BE_BEST or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
