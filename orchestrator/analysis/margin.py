"""By how much the best configuration won, with a 95 % interval, and which others cannot be told from it.

Three sources, the surest that there is: the seeds of both where the sweep repeats them (the spread of training); else the
stored predictions of both, example by example (the spread of the examples alone: with another seed it would be wider still);
else the counts of right answers. Each comparison stands for itself: the best of many is also the luckiest, and its margin is
too large.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.analysis.examples import Examples, ExamplesReader
from orchestrator.analysis.intervals import mcnemar_tells, newcombe, t_quantile, tango, welch
from orchestrator.base.recorded import read_plan
from orchestrator.journal.record import Score, SweepRecord, is_number

Method = Literal["seeds", "paired", "counts", "none"]

TOP = {"val/accuracy": 1, "val/top5_accuracy": 5}
LOSSES = ("val/loss", "val/nll")


@dataclass(frozen=True)
class Margin:
    """The winner against the runner-up. Trials are named by the first one of their configuration.

    Args:
        difference: by how much the winner is better, in units of the metric.
        low, high: its 95 % interval; None where nothing tells.
        method: `seeds`, `paired` over the validation examples, `counts` of right answers, or `none`.
        tied: the trials that cannot be told from the winner at 95 %, the best first; each is compared for itself.
        compared: how many configurations were compared with the winner.
        examples: of validation, where that is known.
        judged: whether the winner has a seed that a scheduler judged, which is left out of its value.
    """

    winner: int
    runner_up: int
    difference: float
    low: float | None
    high: float | None
    method: Method
    tied: list[int]
    compared: int
    examples: int | None
    judged: bool = False

    @property
    def is_tie(self) -> bool:
        """Whether the winner cannot be told from the runner-up."""
        return self.runner_up in self.tied


def margin(record: SweepRecord, folder: Path | None) -> Margin | None:
    """The winner's; None where fewer than two configurations can be the best.

    Args:
        folder: where the sweep lies; None does without its predictions.
    """
    scores = record.scores.ranked() if record.scores else []
    if len(scores) < 2:
        return None
    judge = _Judge(record, ExamplesReader(folder))
    winner, others = scores[0], scores[1:]
    low, high, method = judge.interval(winner, others[0])
    tied = [min(other.trials) for other in others if judge.tied(winner, other)]
    return Margin(
        winner=min(winner.trials),
        runner_up=min(others[0].trials),
        difference=judge.sign * (winner.mean - others[0].mean),
        low=low,
        high=high,
        method=method,
        tied=tied,
        compared=len(others),
        examples=judge.examples,
        judged=winner.selected is not None,
    )


class _Judge:
    def __init__(self, record: SweepRecord, reader: ExamplesReader) -> None:
        self._record, self._reader = record, reader
        self._metric = record.opened.metric
        self.sign = 1.0 if record.opened.mode == "max" else -1.0
        self.examples = _examples_of(record)

    def interval(self, a: Score, b: Score) -> tuple[float | None, float | None, Method]:
        """Of how much `a` is better than `b`."""
        if _seeds_tell(a, b):
            try:
                ends = welch(*([self.sign * value for value in score.unselected.values()] for score in (a, b)))
            except OverflowError:  # of values near the end of all floats
                return None, None, "none"
            return *ends, "seeds"
        pair = self._pair(a, b)
        if pair is not None and self._metric in TOP:
            only_a, only_b = self._alone(*pair)
            return *tango(only_a, only_b, len(pair[0].ids)), "paired"
        if pair is not None and self._metric in LOSSES:
            return *_mean_interval(pair[1].losses - pair[0].losses), "paired"
        if (counts := self._counts(a, b)) is not None:
            count_a, count_b, n = counts
            return *newcombe(count_a, count_b, n, n), "counts"
        return None, None, "none"

    def tied(self, winner: Score, other: Score) -> bool:
        """Whether nothing tells the two apart at 95 %. Equal values are always tied."""
        if winner.mean == other.mean:
            return True
        counts = None if _seeds_tell(winner, other) else self._counts(winner, other)
        if counts is not None:
            if _far_apart(*counts):
                return False
            if (pair := self._pair(winner, other)) is not None:
                return not mcnemar_tells(*self._alone(*pair))
        low, high, _ = self.interval(winner, other)
        return low is not None and high is not None and low <= 0 <= high

    def _pair(self, a: Score, b: Score) -> tuple[Examples, Examples] | None:
        """Both on the same examples."""
        first, second = (self._reader.of(self._record.trials[min(score.unselected)]) for score in (a, b))
        if first is None or second is None or not first.of_same(second):
            return None
        self.examples = len(first.ids)
        return first, second

    def _alone(self, a: Examples, b: Examples) -> tuple[int, int]:
        """How many examples only the one, or only the other has right."""
        right_a, right_b = a.ranks < TOP[self._metric], b.ranks < TOP[self._metric]
        return int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())

    def _counts(self, a: Score, b: Score) -> tuple[int, int, int] | None:
        """Right answers of both, and examples; None where the accuracies are of another number of examples."""
        if self._metric not in TOP or self.examples is None:
            return None
        counts = [score.mean * self.examples for score in (a, b)]
        if not all(-0.5 < count < self.examples + 0.5 and abs(count - round(count)) <= 1e-3 for count in counts):
            return None
        return round(counts[0]), round(counts[1]), self.examples


def _seeds_tell(a: Score, b: Score) -> bool:
    """Whether seeds show how far training spreads: two that hit the same number of images do not show that it never does."""
    return any(len(set(score.unselected.values())) > 1 for score in (a, b))


def _far_apart(count_a: int, count_b: int, n: int) -> bool:
    """Whether the counts alone settle it, however the right answers overlap: then no file has to be read."""
    most = min(count_a + count_b, 2 * n - count_a - count_b)
    only_a = (most + count_a - count_b) // 2
    return mcnemar_tells(only_a, most - only_a)


def _mean_interval(differences_N: object) -> tuple[float, float]:
    """Of the mean, by Student's t: with hundreds of examples it agrees with a bootstrap, at none of its cost."""
    import numpy as np

    values_N = np.asarray(differences_N, dtype=float)
    mean = float(values_N.mean())
    if len(values_N) < 2:
        return mean, mean
    half = t_quantile(len(values_N) - 1) * float(values_N.std(ddof=1)) / len(values_N) ** 0.5
    return mean - half, mean + half


def _examples_of(record: SweepRecord) -> int | None:
    """How many validation examples the trials share; None where the plan does not say, or the data are searched."""
    try:
        plan = read_plan(record.plan)
    except ValueError:
        return None
    n = (plan.get("facts") or {}).get("val")
    searched = any(parameter["key"].split(".")[0] == "data" for parameter in plan["space"])
    return int(n) if is_number(n) and n >= 1 and not searched else None
