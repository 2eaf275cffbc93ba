"""What the test says, once the winner is fixed: each method's scores, and how sure it is that they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.intervals import tango, wilson
from orchestrator.ensembles.catalogue import SEEDS
from orchestrator.ensembles.comparison import Estimate, Row, Scores
from orchestrator.ensembles.measures import (
    check_identities,
    is_right,
    losses,
    measures,
    per_class_accuracy,
    q_statistic,
    reliability,
)
from orchestrator.ensembles.parallel import each
from orchestrator.ensembles.pooling import SMALLEST, Ensemble, log_softmax
from orchestrator.ensembles.statistics.bootstrap import interval, resampled_means
from orchestrator.ensembles.statistics.tests import confidence_set, holm, level_with, mcnemar

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# M members, m members of an ensemble, N examples, K classes, V methods, R resamples

MOST_RESAMPLES_OF_SET = 1_000
AT_ONCE = 2**21
"""Numbers of all members that are looked at together."""

NOTHING: Mapping[int, Sequence[int]] = {}


@dataclass(frozen=True)
class Unseen:
    """The test predictions of all members.

    Args:
        logits_MNK: in the order of the pool, behind it those of networks that were made.
        ids_N: rows of the data set.
    """

    logits_MNK: Array
    labels_N: Array
    ids_N: Array

    def of(self, ensemble: Ensemble) -> Array:
        """The ensemble's class probabilities, float64 [N, K]."""
        return ensemble.probabilities([self.logits_MNK[place] for place in ensemble.members])

    @cached_property
    def said_MN(self) -> Array:
        """The class that each member says; of equal ones the first."""
        import numpy as np

        said = [logits_NK.argmax(axis=1).astype(np.int32) for logits_NK in self.logits_MNK]
        return np.array(said, np.int32).reshape(len(said), len(self.labels_N))

    @cached_property
    def is_right_MN(self) -> Array:
        right_MN: Array = self.said_MN == self.labels_N
        return right_MN


def scores_of(probabilities_NK: Array, labels_N: Array) -> Scores:
    """All measures of one split."""
    return {
        "measures": measures(probabilities_NK, labels_N),
        "per_class_accuracy": per_class_accuracy(probabilities_NK, labels_N),
        "reliability": reliability(probabilities_NK, labels_N),
    }


def judge(
    rows: Sequence[Row],
    ensembles: Sequence[Ensemble],
    baseline: int,
    test: Unseen,
    *,
    ingredients: Mapping[int, Sequence[int]] = NOTHING,
    seed: int,
    resamples: int,
) -> None:
    """Puts what the test says into the rows.

    Args:
        baseline: the row of the best single member.
        ingredients: of networks of averaged weights, by their places: whose weights.
    """
    import numpy as np

    said_VNK = each(test.of, ensembles)
    right_VN = np.stack([is_right(said_NK, test.labels_N) for said_NK in said_VNK])
    losses_VN = np.stack([losses(said_NK, test.labels_N) for said_NK in said_VNK])
    means_RV = resampled_means(losses_VN, np.random.default_rng([seed, 2]), resamples)
    in_set = confidence_set((~right_VN).astype(np.float64), seed, resamples=min(resamples, MOST_RESAMPLES_OF_SET))
    best = int(np.lexsort((losses_VN.mean(axis=1), -right_VN.mean(axis=1)))[0])
    level = {*in_set, *level_with(best, right_VN)}
    member_accuracy_M = test.is_right_MN.mean(axis=1)
    sets = [*dict.fromkeys(map(_members, ensembles))]
    apart = dict(zip(sets, each(lambda members: _Apart.of(members, test), sets), strict=True))
    each(lambda members: _check(members, test), [*dict.fromkeys(_members(one) for one in ensembles if _is_equal(one))])
    for place, (row, ensemble) in enumerate(zip(rows, ensembles, strict=True)):
        row["test"] = scores_of(said_VNK[place], test.labels_N)
        row["accuracy"] = _share(right_VN[place])
        row["nll"] = _estimate(float(losses_VN[place].mean()), means_RV[:, place])
        row["gain_accuracy"] = _gain(right_VN[place], right_VN[baseline])
        gained = float((losses_VN[baseline] - losses_VN[place]).mean())
        row["gain_nll"] = _estimate(gained, means_RV[:, baseline] - means_RV[:, place])
        parts = [part for member in ensemble.members for part in ingredients.get(member, (member,))]
        row["gain_over_mean"] = float(right_VN[place].mean() - member_accuracy_M[parts].mean())
        row["in_set"] = place in level
        of_members = apart[_members(ensemble)]
        row["disagreement"], row["q_statistic"] = of_members.disagreement, of_members.q_statistic
        row["kl"] = of_members.kl(said_VNK[place])
    seeds = next((place for place, row in enumerate(rows) if row["method"] == SEEDS), None)
    for place, row in enumerate(rows if seeds is not None else ()):
        if place != seeds:
            row["gain_over_seeds"] = _gain(right_VN[place], right_VN[seeds])
    others = [place for place in range(len(rows)) if place != baseline]
    p_values = [mcnemar(right_VN[place], right_VN[baseline]) for place in others]
    for place, p_value, corrected in zip(others, p_values, holm(p_values), strict=True):
        rows[place]["p_value"], rows[place]["p_holm"] = p_value, corrected


def _share(right_N: Array) -> Estimate:
    low, high = wilson(int(right_N.sum()), len(right_N))
    return {"value": float(right_N.mean()), "low": low, "high": high}


def _estimate(value: float, means_R: Array) -> Estimate:
    low, high = interval(means_R)
    return {"value": value, "low": low, "high": high}


def _gain(right_N: Array, of_single_N: Array) -> Estimate:
    only, only_single = int((right_N & ~of_single_N).sum()), int((~right_N & of_single_N).sum())
    low, high = tango(only, only_single, len(right_N))
    return {"value": (only - only_single) / len(right_N), "low": low, "high": high}


def _members(ensemble: Ensemble) -> tuple[int, ...]:
    """Methods that take the same members, as those that take all, differ from each other in the rest."""
    return tuple(sorted(ensemble.members))


@dataclass(frozen=True)
class _Apart:
    """How the members of an ensemble differ; None of a single member.

    Args:
        disagreement, q_statistic: of two of them, on average.
        mean_log_NK: the mean of their log-probabilities.
    """

    disagreement: float | None
    q_statistic: float | None
    mean_log_NK: Array | None

    @classmethod
    def of(cls, members: Sequence[int], test: Unseen) -> _Apart:
        import numpy as np

        m, classes = len(members), test.logits_MNK.shape[2]
        if m < 2:
            return cls(None, None, None)
        q_mm = q_statistic(test.is_right_MN[[*members]])
        known = q_mm[~np.eye(m, dtype=bool)]
        known = known[np.isfinite(known)]
        total_NK = np.zeros((len(test.labels_N), classes))
        for place in members:
            total_NK += np.maximum(log_softmax(test.logits_MNK[place]), np.log(SMALLEST))
        q = float(known.mean()) if len(known) else None
        return cls(mean_disagreement(test.said_MN[[*members]], classes), q, total_NK / m)

    def kl(self, said_NK: Array) -> float | None:
        """KL(ensemble || member) in nats, averaged over members and examples."""
        import numpy as np

        if self.mean_log_NK is None:
            return None
        log_said_NK = np.log(np.maximum(said_NK, SMALLEST))
        return float((np.exp(log_said_NK) * (log_said_NK - self.mean_log_NK)).sum(axis=1).mean())


def mean_disagreement(said_mN: Array, classes: int) -> float:
    """The share of examples on which two members say different classes, averaged over pairs: from the votes, not by pairs."""
    import numpy as np

    m, examples = said_mN.shape
    at, votes_NK = np.arange(examples), np.zeros((examples, classes))
    for said_N in said_mN:
        votes_NK[at, said_N] += 1
    agree = (votes_NK * (votes_NK - 1)).sum() / examples
    return float(1 - agree / (m * (m - 1)))


def _is_equal(ensemble: Ensemble) -> bool:
    """Whether it is one of several members with equal weights."""
    return len(ensemble.members) > 1 and len(set(ensemble.weights)) == 1 and ensemble.pooling != "stacked"


def _check(members: Sequence[int], test: Unseen) -> None:
    """Asserts the identities of ensembles with equal weights, on the test, by parts of the examples."""
    size = max(1, AT_ONCE // (len(members) * test.logits_MNK.shape[2]))
    for start in range(0, len(test.labels_N), size):
        part = slice(start, start + size)
        check_identities(log_softmax(test.logits_MNK[[*members], part]), test.labels_N[part])
