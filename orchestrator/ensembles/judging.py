"""What the test says, once the winner is fixed: each method's scores, and how sure it is that they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.intervals import tango, wilson
from orchestrator.ensembles.catalogue import SEEDS
from orchestrator.ensembles.comparison import Estimate, Row, Scores
from orchestrator.ensembles.measures import (
    check_identities,
    is_right,
    kl_to_members,
    losses,
    measures,
    per_class_accuracy,
    q_statistic,
    reliability,
)
from orchestrator.ensembles.pooling import SMALLEST, Ensemble, log_softmax
from orchestrator.ensembles.statistics.bootstrap import interval, resampled_means
from orchestrator.ensembles.statistics.tests import confidence_set, holm, mcnemar

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# M members, m members of an ensemble, N examples, K classes, V methods, R resamples

MOST_RESAMPLES_OF_SET = 1_000
AT_ONCE = 2**22
"""Numbers of all members that are looked at together."""


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
        return ensemble.probabilities(self.logits_MNK[[*ensemble.members]])


def scores_of(probabilities_NK: Array, labels_N: Array) -> Scores:
    """All measures of one split."""
    return {
        "measures": measures(probabilities_NK, labels_N),
        "per_class_accuracy": per_class_accuracy(probabilities_NK, labels_N),
        "reliability": reliability(probabilities_NK, labels_N),
    }


def judge(
    rows: Sequence[Row], ensembles: Sequence[Ensemble], baseline: int, test: Unseen, *, seed: int, resamples: int
) -> None:
    """Puts what the test says into the rows.

    Args:
        baseline: the row of the best single member.
    """
    import numpy as np

    said_VNK = [test.of(ensemble) for ensemble in ensembles]
    right_VN = np.stack([is_right(said_NK, test.labels_N) for said_NK in said_VNK])
    losses_VN = np.stack([losses(said_NK, test.labels_N) for said_NK in said_VNK])
    means_RV = resampled_means(losses_VN, np.random.default_rng([seed, 2]), resamples)
    in_set = confidence_set((~right_VN).astype(np.float64), seed, resamples=min(resamples, MOST_RESAMPLES_OF_SET))
    member_accuracy_M = (test.logits_MNK.argmax(axis=2) == test.labels_N).mean(axis=1)
    for place, (row, ensemble) in enumerate(zip(rows, ensembles, strict=True)):
        row["test"] = scores_of(said_VNK[place], test.labels_N)
        row["accuracy"] = _share(right_VN[place])
        row["nll"] = _estimate(float(losses_VN[place].mean()), means_RV[:, place])
        row["gain_accuracy"] = _gain(right_VN[place], right_VN[baseline])
        gained = float((losses_VN[baseline] - losses_VN[place]).mean())
        row["gain_nll"] = _estimate(gained, means_RV[:, baseline] - means_RV[:, place])
        row["gain_over_mean"] = float(right_VN[place].mean() - member_accuracy_M[[*ensemble.members]].mean())
        row["in_set"] = place in in_set
        row["disagreement"], row["q_statistic"], row["kl"] = _differences(ensemble, said_VNK[place], test)
        _check(ensemble, test)
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


def _differences(ensemble: Ensemble, said_NK: Array, test: Unseen) -> tuple[float | None, float | None, float | None]:
    """Mean disagreement and Q statistic of two members, and mean KL(ensemble || member); None of a single member."""
    import numpy as np

    m = len(ensemble.members)
    if m < 2:
        return None, None, None
    said_mN = test.logits_MNK[[*ensemble.members]].argmax(axis=2)
    q_mm = q_statistic(said_mN == test.labels_N)
    known = q_mm[~np.eye(m, dtype=bool)]
    known = known[np.isfinite(known)]
    log_said_NK = np.log(np.maximum(said_NK, SMALLEST))
    kl = [
        kl_to_members(log_said_NK, np.maximum(log_softmax(test.logits_MNK[[place]]), np.log(SMALLEST)))[0]
        for place in ensemble.members
    ]
    return mean_disagreement(said_mN, said_NK.shape[1]), float(known.mean()) if len(known) else None, float(np.mean(kl))


def mean_disagreement(said_mN: Array, classes: int) -> float:
    """The share of examples on which two members say different classes, averaged over pairs: from the votes, not by pairs."""
    import numpy as np

    m, examples = said_mN.shape
    votes = np.bincount((said_mN + np.arange(examples) * classes).ravel(), minlength=examples * classes)
    agree = (votes * (votes - 1)).sum() / examples
    return float(1 - agree / (m * (m - 1)))


def _check(ensemble: Ensemble, test: Unseen) -> None:
    """Asserts the identities of ensembles with equal weights, on the test, by parts of the examples."""
    m, classes = len(ensemble.members), test.logits_MNK.shape[2]
    if m < 2 or len(set(ensemble.weights)) > 1 or ensemble.pooling == "stacked":
        return
    size = max(1, AT_ONCE // (m * classes))
    for start in range(0, len(test.labels_N), size):
        part = slice(start, start + size)
        check_identities(log_softmax(test.logits_MNK[[*ensemble.members], part]), test.labels_N[part])
