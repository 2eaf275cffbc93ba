"""Forward selection with replacement: the member that helps most is added, again and again; its count is its weight.

Caruana, Niculescu-Mizil, Crew and Ksikes 2004, Ensemble selection from libraries of models, ICML. Bags: their section 2.3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, get_args

from orchestrator.ensembles.pooling import SMALLEST, Ensemble, Step

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.pool import Pool

    Array = np.ndarray[Any, Any]

# M members, N examples, K classes

Criterion = Literal["nll", "accuracy"]

AT_ONCE = 2**21
"""Numbers that are looked at together: as many as stay in a processor's cache."""

AHEAD = 4
"""For so many steps the examples are held that they may decide."""

THREADS = 2

FACTORS = 8
"""So many probabilities are multiplied before the logarithm is taken: SMALLEST ** 8 is far from underflow."""


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
            counts.update(bag[step.member] for step in cut(selected(pool.of(bag), self.picks, self.criterion)))
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

    score = _Accuracy(pool) if criterion == "accuracy" else _NegativeLoss(pool)
    taken = np.zeros(len(pool), dtype=bool)
    steps: list[Step] = []
    for count in range(picks):
        scores_M = score.of_each(count)
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
    """The mean log-probability of the right class: it needs no other class."""

    def __init__(self, pool: Pool) -> None:
        import numpy as np

        self._right_MN = pool.right_MN
        self._sum_N = np.zeros(self._right_MN.shape[1])

    def of_each(self, count: int, members: Array | None = None) -> Array:
        """The score with each member added to `count` others."""
        import numpy as np

        right_MN = self._right_MN if members is None else self._right_MN[members]
        examples = right_MN.shape[1]
        scores_M = np.empty(len(right_MN))
        rows = max(1, AT_ONCE // max(examples, 1) // 8)
        whole = examples - examples % FACTORS
        for start in range(0, len(right_MN), rows):
            mean_mN = (right_MN[start : start + rows] + self._sum_N) / (count + 1)
            np.maximum(mean_mN, SMALLEST, out=mean_mN)
            products = np.multiply.reduce(mean_mN[:, :whole].reshape(len(mean_mN), FACTORS, -1), axis=1)
            logs_m = np.log(products).sum(axis=1) + np.log(mean_mN[:, whole:]).sum(axis=1)
            scores_M[start : start + rows] = logs_m / examples
        return scores_M

    def take(self, member: int) -> None:
        self._sum_N += self._right_MN[member]

    def refined(self, equal_M: Array, count: int) -> Array:
        """Of members that tie, those that are better by another score: there is none."""
        del count
        return equal_M


class _Accuracy:
    """The share of examples whose right class has the largest mean probability; of equal ones the first class.

    A member moves the sum of a class by at most 1, so for the next `AHEAD` steps only the examples are held whose right class is
    ahead or behind by less than one more than that; the others are decided. After a few steps most of them are.
    """

    def __init__(self, pool: Pool) -> None:
        import numpy as np

        self._labels_N = pool.labels_N
        self._all_MNK = pool.probabilities_MNK
        self._all_KMN = np.ascontiguousarray(pool.probabilities_MNK.transpose(2, 0, 1))
        self._sum_NK = np.zeros(pool.probabilities_MNK.shape[1:], dtype=np.float32)
        self._loss = _NegativeLoss(pool)
        self._steps_held = 0

    def of_each(self, count: int) -> Array:
        """The score with each member added to `count` others."""
        import numpy as np

        del count
        _, members, examples = self._all_KMN.shape
        if not self._steps_held:
            self._hold()
        self._steps_held -= 1
        if not len(self._held_n):
            return np.full(members, self._decided / examples)
        self._beside_Kn = np.ascontiguousarray(self._sum_NK[self._held_n].T)
        rows = max(1, AT_ONCE // len(self._held_n) // 8)
        parts = [slice(start, min(start + rows, members)) for start in range(0, members, rows)]
        with ThreadPoolExecutor(THREADS) as pool:
            right_M = np.concatenate([*pool.map(self._right, parts)])
        scores_M: Array = (self._decided + right_M) / examples
        return scores_M

    def _hold(self) -> None:
        """Holds the examples that the next steps may decide, and counts those that are right whatever is added."""
        import numpy as np

        at = np.arange(len(self._labels_N))
        right_N = self._sum_NK[at, self._labels_N]
        others_NK = self._sum_NK.copy()
        others_NK[at, self._labels_N] = -np.inf
        ahead_N = right_N - others_NK.max(axis=1)
        far = AHEAD + 1e-3  # float32 sums of fifty probabilities are off by less
        held_n = np.flatnonzero(np.abs(ahead_N) <= far)
        self._decided = int((ahead_N > far).sum())
        self._held_n = held_n[np.argsort(self._labels_N[held_n], kind="stable")]  # those of a class stand together
        self._ends = np.searchsorted(self._labels_N[self._held_n], np.arange(len(self._all_KMN) + 1))
        self._held_KMn = self._all_KMN[:, :, self._held_n]
        self._steps_held = AHEAD

    def _right(self, part: slice) -> Array:
        """How many of the held examples each of these members makes right."""
        import numpy as np

        shape = self._held_KMn[0, part].shape
        right_mn, others_mn = np.empty(shape, np.float32), np.full(shape, -np.inf, np.float32)
        sum_mn = np.empty(shape, np.float32)
        for label, (held_Mn, beside_n) in enumerate(zip(self._held_KMn, self._beside_Kn, strict=True)):
            np.add(held_Mn[part], beside_n, out=sum_mn)
            own = slice(self._ends[label], self._ends[label + 1])
            right_mn[:, own] = sum_mn[:, own]
            sum_mn[:, own] = -np.inf
            np.maximum(others_mn, sum_mn, out=others_mn)
        is_right_mn = right_mn > others_mn
        rows, columns = np.nonzero(right_mn == others_mn)
        if len(rows):  # of equal classes the first is said
            sums_tK = self._held_KMn[:, part][:, rows, columns].T + self._beside_Kn[:, columns].T
            is_right_mn[rows, columns] = sums_tK.argmax(axis=1) == self._labels_N[self._held_n[columns]]
        counts_m: Array = is_right_mn.sum(axis=1)
        return counts_m

    def take(self, member: int) -> None:
        self._sum_NK += self._all_MNK[member]
        self._loss.take(member)

    def refined(self, equal_M: Array, count: int) -> Array:
        """Of members that tie, those with the best likelihood."""
        import numpy as np

        if equal_M.sum() < 2:
            return equal_M
        places = np.flatnonzero(equal_M)
        losses = self._loss.of_each(count, places)
        best_M = np.zeros_like(equal_M)
        best_M[places[losses == losses.max()]] = True
        return best_M
