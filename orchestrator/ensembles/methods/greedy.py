"""Forward selection with replacement: the member that helps most is added, again and again; its count is its weight.

Caruana, Niculescu-Mizil, Crew and Ksikes 2004, Ensemble selection from libraries of models, ICML. Bags: their section 2.3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from orchestrator.ensembles.parallel import each
from orchestrator.ensembles.pool import Part, Pool
from orchestrator.ensembles.pooling import SMALLEST, Ensemble, Step, softmax

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# M members, N examples, K classes

Criterion = Literal["nll", "accuracy"]

AT_ONCE = 2**18
"""Numbers that are looked at together: as many as stay in a processor's cache."""

FACTORS = 16
"""So many probabilities are multiplied before the logarithm is taken: SMALLEST ** 16 is far from underflow."""

FEW = 8
"""So many members are scored first in each step."""

ROUNDING = 1e-9
"""Sums of probabilities and of their logarithms are off by less."""


class Greedy:
    """Selects members of the mean of probabilities, one at a time, and keeps the prefix with the best score.

    Args:
        picks: how often a member is taken; AutoGluon's authors saw no gain beyond 25.
        criterion: `nll` or `accuracy` (of equals the lower NLL), on the validation examples.
        bags: selections, each from a random half of the members, whose picks are counted together; 0 selects once from all.
        bag_fraction: the share of the members that a bag may take.
    """

    fits = True

    def __init__(self, picks: int = 25, criterion: Criterion = "nll", bags: int = 0, bag_fraction: float = 0.5) -> None:
        if picks < 1:
            raise ValueError(f"picks must be at least 1, got {picks}")
        if criterion not in get_args(Criterion):
            raise ValueError(f"criterion must be one of {', '.join(get_args(Criterion))}, got {criterion}")
        if bags < 0:
            raise ValueError(f"bags must be at least 0, got {bags}")
        if not 0 < bag_fraction <= 1:
            raise ValueError(f"bag_fraction must be in (0, 1], got {bag_fraction}")
        self.picks, self.criterion, self.bags, self.bag_fraction = picks, criterion, bags, bag_fraction

    def build(self, pool: Pool, generator: np.random.Generator) -> Ensemble:
        if not self.bags:
            steps = cut(selected(pool, self.picks, self.criterion))
            return counted(Counter(step.member for step in steps), steps)
        counts: Counter[int] = Counter()
        size = max(1, round(self.bag_fraction * len(pool)))
        for _ in range(self.bags):
            bag = sorted(generator.choice(len(pool), size=size, replace=False).tolist())
            counts.update(bag[step.member] for step in cut(selected(Part(pool, bag), self.picks, self.criterion)))
        return counted(counts)


def counted(counts: Counter[int], steps: Sequence[Step] = ()) -> Ensemble:
    """The mean of probabilities of members that were taken so often; the most often taken first."""
    members = sorted(counts, key=lambda member: (-counts[member], member))
    total = counts.total()
    return Ensemble(tuple(members), tuple(counts[member] / total for member in members), steps=tuple(steps))


def cut(steps: Sequence[Step]) -> list[Step]:
    """The steps up to the first one with the best score."""
    best = max(step.score for step in steps)
    return [*steps[: 1 + next(place for place, step in enumerate(steps) if step.score == best)]]


def selected(
    pool: Pool,
    picks: int,
    criterion: Criterion = "nll",
    *,
    decimals: int | None = None,
    choose: Callable[[Array], int] | None = None,
) -> list[Step]:
    """All steps of a selection; a step's score is larger where the ensemble is better.

    Of candidates with equal scores one that was taken already wins, which leaves an ensemble of fewer members; then the first.

    Args:
        decimals: after the first step scores are rounded to so many; None compares them as they are.
        choose: takes one of the places that tie after that; None takes the first.
    """
    import numpy as np

    score = _Accuracy(pool) if criterion == "accuracy" else _NegativeLoss(pool.right_MN)
    taken = np.zeros(len(pool), dtype=bool)
    steps: list[Step] = []
    for count in range(picks):
        # What is less than the best by this much is not equal to it, rounded.
        scores_M = score.of_each(count, 0.0 if decimals is None else 10.0**-decimals)
        compared_M = scores_M if decimals is None or not count else np.round(scores_M, decimals)
        equal_M = compared_M == compared_M.max()
        if decimals is None:
            equal_M = score.refined(equal_M, count)
        if (equal_M & taken).any():
            equal_M &= taken
        member = int(equal_M.argmax()) if choose is None else int(choose(np.flatnonzero(equal_M)))
        taken[member] = True
        score.take(member)
        steps.append(Step(member, float(compared_M[member])))
    return steps


class _NegativeLoss:
    """The mean log-probability of the right class: it needs no other class.

    The logarithm is concave, so its tangent bounds it from above, and the tangents of all members take one matrix product. Only
    members are scored whose bound reaches the best score: a few of a thousand.
    """

    def __init__(self, right_MN: Array) -> None:
        import numpy as np

        self._right_MN = right_MN if right_MN.min() >= SMALLEST else np.maximum(right_MN, SMALLEST)
        self._sum_N = np.zeros(right_MN.shape[1])
        self._usual_N = self._right_MN.mean(axis=0)

    def of_each(self, count: int, within: float) -> Array:
        """The score with each member added to `count` others; minus infinity where it is below the best one less `within`."""
        import numpy as np

        scores_M = np.full(len(self._right_MN), -np.inf)
        bounds_M = self._bounds(count)
        order = np.argsort(-bounds_M, kind="stable")
        start = end = 0
        while start < len(order) and bounds_M[order[start]] >= (least := scores_M.max() - within - ROUNDING):
            # At first a few, for it is not known yet how many reach the best; then as many as fit into the cache.
            end = min(start + max(FEW, min(end, AT_ONCE // len(self._sum_N))), len(order))
            places = order[start:end][bounds_M[order[start:end]] >= least]
            scores_M[places] = self.of(places, count)
            start = end
        return scores_M

    def _bounds(self, count: int) -> Array:
        """Upper bounds of the scores: where each logarithm is touched by a tangent at what members usually say."""
        import numpy as np

        touched_N = self._sum_N + self._usual_N
        slope_N = 1 / touched_N
        constant = np.log(touched_N).mean() - slope_N @ self._usual_N / len(slope_N) - np.log(count + 1)
        bounds_M: Array = self._right_MN @ slope_N / len(slope_N) + constant
        return bounds_M

    def of(self, members: Array, count: int) -> Array:
        """The scores with each of these members added to `count` others."""
        import numpy as np

        products_mn = self._right_MN[members]
        products_mn += self._sum_N
        examples = left = products_mn.shape[1]
        logs_m = np.zeros(len(members))
        for _ in range(FACTORS.bit_length() - 1):  # each time the second half is multiplied into the first
            half = left // 2
            if left % 2:
                logs_m += np.log(products_mn[:, left - 1])
            products_mn[:, :half] *= products_mn[:, half : 2 * half]
            left = half
        logs_m += np.log(products_mn[:, :left]).sum(axis=1)
        scores_m: Array = logs_m / examples - np.log(count + 1)
        return scores_m

    def take(self, member: int) -> None:
        self._sum_N += self._right_MN[member]

    def refined(self, equal_M: Array, count: int) -> Array:
        """Of members that tie, those that are better by another score: there is none."""
        del count
        return equal_M


class _Accuracy:
    """The share of examples whose right class has the largest mean probability; of equal ones the first class.

    A member moves the sum of a class by at most 1: only the examples are looked at whose right class is ahead or behind by no
    more than that. After a few steps these are few.
    """

    def __init__(self, pool: Pool) -> None:
        import numpy as np

        self._labels_N = pool.labels_N
        examples, classes = pool.logits_of(0).shape
        self._said_MKN = np.empty((len(pool), classes, examples), np.float32)

        def fill(place: int) -> None:
            self._said_MKN[place] = softmax(pool.logits_of(place)).T

        each(fill, range(len(pool)))
        self._sum_KN = np.zeros((classes, examples), np.float32)
        self._loss = _NegativeLoss(pool.right_MN)

    def of_each(self, count: int, within: float) -> Array:
        """The score with each member added to `count` others."""
        import numpy as np

        del count, within
        at = np.arange(len(self._labels_N))
        others_KN = self._sum_KN.copy()
        others_KN[self._labels_N, at] = -np.inf
        ahead_N = self._sum_KN[self._labels_N, at] - others_KN.max(axis=0)
        far = 1 + 1e-3  # float32 sums of fifty probabilities are off by less
        near_n = np.flatnonzero(np.abs(ahead_N) <= far)
        right_M = np.full(len(self._said_MKN), int((ahead_N > far).sum()))
        if len(near_n):
            rows = max(1, AT_ONCE // (len(near_n) * len(others_KN)))
            parts = [slice(start, start + rows) for start in range(0, len(right_M), rows)]
            right_M += np.concatenate(each(self._counter(near_n, others_KN), parts))
        scores_M: Array = right_M / len(self._labels_N)
        return scores_M

    def _counter(self, near_n: Array, others_KN: Array) -> Callable[[slice], Array]:
        """A function that says how many of these examples each member of a part makes right."""
        import numpy as np

        labels_n, at = self._labels_N[near_n], np.arange(len(near_n))
        others_Kn, sum_Kn = others_KN[:, near_n], self._sum_KN[:, near_n]
        sum_n = sum_Kn[labels_n, at]

        def count(part: slice) -> Array:
            said_mKn = self._said_MKN[part].take(near_n, axis=2)
            right_mn = said_mKn[:, labels_n, at] + sum_n
            most_mn = (said_mKn + others_Kn).max(axis=1)
            rows, columns = np.nonzero(right_mn == most_mn)  # of equal classes the first is said
            first = (said_mKn[rows, :, columns] + sum_Kn[:, columns].T).argmax(axis=1)
            also_m = np.bincount(rows[first == labels_n[columns]], minlength=len(said_mKn))
            counts_m: Array = (right_mn > most_mn).sum(axis=1) + also_m
            return counts_m

        return count

    def take(self, member: int) -> None:
        self._sum_KN += self._said_MKN[member]
        self._loss.take(member)

    def refined(self, equal_M: Array, count: int) -> Array:
        """Of members that tie, those with the best likelihood."""
        import numpy as np

        if equal_M.sum() < 2:
            return equal_M
        places = np.flatnonzero(equal_M)
        losses = self._loss.of(places, count)
        best_M = np.zeros_like(equal_M)
        best_M[places[losses == losses.max()]] = True
        return best_M
