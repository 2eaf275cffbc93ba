"""Asynchronous successive halving: at each rung only the best 1/reduction_factor of the trials seen there go on.

Source: Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning, arXiv:1810.05934. Stopped trials are never promoted
later: the variant of Ray Tune's AsyncHyperBandScheduler, whose answers these are as long as all values are finite and distinct.

Our deviations from Ray's:
- Ties go to the earlier trial. One that ties with the cutoff goes on only while fewer than 1/reduction_factor of the trials at
  the rung have gone on. Ray lets all of them pass: where most trials are at chance accuracy it stops hardly any.
- A trial that diverges on the way to a rung is a loser of that rung, worse than every value there, as one whose loss is infinite
  is in the paper. It counts at no later rung: a loser never gets there. Ray does not count it at all.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass

from orchestrator.base.rules import FIRST_RULES
from orchestrator.scheduling.schedulers import Decision, Scheduler


@dataclass(frozen=True)
class Asha:
    """One bracket.

    Args:
        grace_epochs: the first rung; no trial is stopped before.
        reduction_factor: each rung is this factor further than the one before, and one trial in so many survives it.

    Raises:
        ValueError: a number is out of range.
    """

    grace_epochs: int = 1
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        if self.grace_epochs < 1:
            raise ValueError(f"grace_epochs must be at least 1, got {self.grace_epochs}")
        if self.reduction_factor < 2:
            raise ValueError(f"reduction_factor must be at least 2, got {self.reduction_factor}")

    def rungs(self, epochs: int) -> list[int]:
        found = []
        rung = self.grace_epochs
        while rung < epochs:
            found.append(rung)
            rung *= self.reduction_factor
        return found

    def start(self, *, mode: str, epochs: int) -> Scheduler:
        return self._start(_Rung, mode, epochs)

    def under(self, rules: int) -> Asha:
        """The scheduler of a sweep that began under these rules."""
        return _FirstAsha(self.grace_epochs, self.reduction_factor) if rules == FIRST_RULES else self

    def _start(self, rung: type[_Rung], mode: str, epochs: int) -> Scheduler:
        sign = 1.0 if mode == "max" else -1.0
        return _Bracket({epoch: rung(self.reduction_factor) for epoch in self.rungs(epochs)}, sign)


class _Bracket(Scheduler):
    def __init__(self, rungs: dict[int, _Rung], sign: float) -> None:
        self._rungs, self._sign = rungs, sign

    def show(self, trial: int, epoch: int, value: float | None) -> Decision:
        del trial
        if epoch not in self._rungs:
            return Decision.CONTINUE
        diverged = value is None or not math.isfinite(value)
        survives = self._rungs[epoch].judge(None if diverged or value is None else self._sign * value)
        return Decision.CONTINUE if survives else Decision.STOP


class _Rung:
    """The trials seen at one rung, by score; higher is better."""

    def __init__(self, reduction_factor: int) -> None:
        self._factor = reduction_factor
        self._scores: list[float] = []  # ascending
        self._diverged = 0
        self._survivors = 0

    def judge(self, score: float | None) -> bool:
        """Adds a trial, None for one that diverged; whether it goes on."""
        survives = score is not None and self._survives(score)
        if score is None:
            self._diverged += 1
        else:
            insort(self._scores, score)
        self._survivors += survives
        return survives

    def _survives(self, score: float) -> bool:
        cutoff = self._cutoff()
        if score != cutoff or not self._has(score):
            return score >= cutoff
        places = max(1, (self._diverged + len(self._scores) + 1) // self._factor)
        return self._survivors < places

    def _cutoff(self) -> float:
        """The quantile 1 - 1/reduction_factor of the scores so far, interpolated linearly; -inf where any score will do.

        Nothing is interpolated between a score and a diverged trial: the score itself is the cutoff then.
        """
        count = self._diverged + len(self._scores)
        if count == 0:
            return -math.inf
        place, rest = divmod((count - 1) * (self._factor - 1), self._factor)
        below = place - self._diverged
        above = below + (rest > 0)
        if above < 0:
            return -math.inf
        if rest == 0 or below < 0:
            return self._scores[above]
        step = self._scores[above] - self._scores[below]
        share = rest / self._factor
        if share < 0.5:  # as numpy's percentile rounds
            return self._scores[below] + step * share
        return self._scores[above] - step * (1 - share)

    def _has(self, score: float) -> bool:
        place = bisect_left(self._scores, score)
        return place < len(self._scores) and self._scores[place] == score


# Under the first rules ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _FirstAsha(Asha):
    """Ray's own answers to ties and divergence."""

    def start(self, *, mode: str, epochs: int) -> Scheduler:
        return self._start(_FirstRung, mode, epochs)


class _FirstRung(_Rung):
    def judge(self, score: float | None) -> bool:
        return score is not None and super().judge(score)

    def _survives(self, score: float) -> bool:
        import numpy

        percent = (1 - 1 / self._factor) * 100  # its rounding decides some ties
        return not self._scores or bool(score >= numpy.percentile(self._scores, percent))
