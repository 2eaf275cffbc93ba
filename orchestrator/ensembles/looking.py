"""What a comparison shows beside its scores: sizes, the winner's members among each other, and where it errs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.ensembles.comparison import RANKING, Worst
from orchestrator.ensembles.judging import Unseen
from orchestrator.ensembles.measures import disagreement, is_right, losses
from orchestrator.ensembles.methods.greedy import counted
from orchestrator.ensembles.pool import Pool
from orchestrator.ensembles.pooling import Ensemble, softmax, temperature_of, tempered

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# M members, m members of the winner, N examples, K classes

MEMBERS_SHOWN = 50
WORST_SHOWN = 24


def sizes(
    selection: tuple[str, Ensemble] | None, pool: Pool, test: Unseen, *, calibrate: bool
) -> list[tuple[str, int, float, float]]:
    """(method, members, test accuracy, test NLL) of each prefix of the ranking and of a selection.

    Args:
        selection: a method's name, and its ensemble with steps.
        calibrate: whether each prefix of the ranking has its temperature, fitted to validation; those of the selection have the
            ensemble's.
    """
    found = []
    most = len(pool)
    counts = {*range(1, min(most, 30) + 1), *(round(30 * 1.4**power) for power in range(20)), most}
    shares = _Prefix(pool, test, None if calibrate else 1.0)
    for count in range(1, most + 1):
        shares.add(count - 1)
        if count in counts:
            found.append((RANKING, count, *shares.scores()))
    if selection is None:
        return found
    name, ensemble = selection
    shares = _Prefix(pool, test, ensemble.temperature)
    taken: Counter[int] = Counter()
    for step in ensemble.steps:
        shares.add(step.member)
        taken[step.member] += 1
        found.append((name, len(counted(taken).members), *shares.scores()))
    return found


class _Prefix:
    """The mean of probabilities of members as they are added.

    Args:
        temperature: fitted to validation where it is None.
    """

    def __init__(self, pool: Pool, test: Unseen, temperature: float | None) -> None:
        import numpy as np

        self._pool, self._test, self._temperature = pool, test, temperature
        self._count = 0
        classes = len(pool.classes)
        self._val_NK = np.zeros((len(pool.labels_N), classes))
        self._test_NK = np.zeros((len(test.labels_N), classes))

    def add(self, member: int) -> None:
        self._count += 1
        self._val_NK += softmax(self._pool.logits_of(member), "float64")
        self._test_NK += softmax(self._test.logits_MNK[member], "float64")

    def scores(self) -> tuple[float, float]:
        """Unseen accuracy and NLL of the members so far."""
        said_NK, labels_N = self._test_NK / self._count, self._test.labels_N
        hot = self._temperature
        if hot is None:
            hot = temperature_of(self._val_NK / self._count, self._pool.labels_N)
        if hot != 1.0:
            said_NK = tempered(said_NK, hot)
        return float(is_right(said_NK, labels_N).mean()), float(losses(said_NK, labels_N).mean())


def heaviest(ensemble: Ensemble) -> list[int]:
    """Its members in their order; of more than are shown, those with the largest weights."""
    order = sorted(range(len(ensemble.members)), key=lambda place: -ensemble.weights[place])
    return [ensemble.members[place] for place in sorted(order[:MEMBERS_SHOWN])]


def agreement(ensemble: Ensemble, test: Unseen) -> tuple[list[int], list[list[float]]]:
    """The ensemble's members, those that agree beside each other, and the matrix of their disagreement on the test."""
    import numpy as np
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    members = sorted(heaviest(ensemble))
    apart_mm = disagreement(test.said_MN[members])
    order = [0]
    if len(members) > 1:
        order = leaves_list(linkage(squareform(apart_mm), "average", optimal_ordering=True)).tolist()
    matrix: list[list[float]] = apart_mm[np.ix_(order, order)].tolist()
    return [members[place] for place in order], matrix


def confusion(said_NK: Array, labels_N: Array) -> list[list[int]]:
    """How many examples of each class (rows) are said to be of each (columns)."""
    import numpy as np

    classes = said_NK.shape[1]
    counts = np.bincount(labels_N * classes + said_NK.argmax(axis=1), minlength=classes**2)
    found: list[list[int]] = counts.reshape(classes, classes).tolist()
    return found


def worst(ensemble: Ensemble, said_NK: Array, test: Unseen) -> list[Worst]:
    """The test examples on which the ensemble errs with most confidence, the most confident first."""
    import numpy as np

    wrong_n = np.flatnonzero(~is_right(said_NK, test.labels_N))
    order = wrong_n[np.lexsort((test.ids_N[wrong_n], -said_NK[wrong_n].max(axis=1)))][:WORST_SHOWN]
    members = softmax(test.logits_MNK[np.array(heaviest(ensemble))[:, None], order])
    return [
        {
            "id": int(test.ids_N[row]),
            "label": int(test.labels_N[row]),
            "said": _said(said_NK[row]),
            "members": [_said(of_member_nK[place]) for of_member_nK in members],
        }
        for place, row in enumerate(order)
    ]


def _said(probabilities_K: Array) -> tuple[int, float]:
    return int(probabilities_K.argmax()), float(probabilities_K.max())


def seed_spread(pool: Pool, accuracy_M: Array) -> float | None:
    """The standard deviation of accuracy over seeds of one configuration, pooled over configurations; None without repeats."""
    import numpy as np

    groups: dict[str, list[float]] = defaultdict(list)
    for member, accuracy in zip(pool.members, accuracy_M, strict=True):
        groups[member.configuration].append(float(accuracy))
    several: Sequence[list[float]] = [values for values in groups.values() if len(values) > 1]
    if not several:
        return None
    squares = sum(len(values) * np.var(values) for values in several)
    return float(np.sqrt(squares / sum(len(values) - 1 for values in several)))
