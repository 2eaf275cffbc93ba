"""What predictions are worth: accuracy, proper scores and calibration of one ensemble, and how members differ from each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.ensembles.pooling import log_softmax

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# M members, N examples, K classes

BINS = 15


def measures(probabilities_NK: Array, labels_N: Array) -> dict[str, float]:
    """All numbers of one set of predictions: accuracy, top5_error, nll, brier, ece, classwise_ece."""
    return {
        "accuracy": float(is_right(probabilities_NK, labels_N).mean()),
        "top5_error": top5_error(probabilities_NK, labels_N),
        "nll": float(losses(probabilities_NK, labels_N).mean()),
        "brier": brier(probabilities_NK, labels_N),
        "ece": expected_calibration_error(probabilities_NK, labels_N),
        "classwise_ece": classwise_calibration_error(probabilities_NK, labels_N),
    }


def is_right(probabilities_NK: Array, labels_N: Array) -> Array:
    """Whether the most probable class is the right one, bool [N]; of equal ones the first is said."""
    right_N: Array = probabilities_NK.argmax(axis=1) == labels_N
    return right_N


def losses(probabilities_NK: Array, labels_N: Array) -> Array:
    """Negative log-likelihood of each example in nats, float64 [N].

    A probability of 0 counts as float64's smallest, 2.2e-308, and costs 708 nats: no mean is infinite.
    """
    import numpy as np

    right_N = probabilities_NK[np.arange(len(labels_N)), labels_N].astype(np.float64)
    found_N: Array = -np.log(np.maximum(right_N, np.finfo(np.float64).tiny))
    return found_N


def losses_of_logits(logits_NK: Array, labels_N: Array) -> Array:
    """The same from logits, in which nothing is as small as 0."""
    import numpy as np

    found_N: Array = -log_softmax(logits_NK)[np.arange(len(labels_N)), labels_N]
    return np.maximum(found_N, 0.0)


def in_top5(scores_NK: Array, labels_N: Array) -> Array:
    """Whether fewer than five classes are above the right one, bool [N]."""
    import numpy as np

    found_N: Array = (scores_NK > scores_NK[np.arange(len(labels_N)), labels_N][:, None]).sum(axis=1) < 5
    return found_N


def top5_error(probabilities_NK: Array, labels_N: Array) -> float:
    """The share of examples whose class is not among the five most probable; of equal ones the first come first."""
    import numpy as np

    at = np.arange(len(labels_N))
    right_N1 = probabilities_NK[at, labels_N][:, None]
    before_NK = np.arange(probabilities_NK.shape[1])[None] < labels_N[:, None]
    ahead_N = ((probabilities_NK > right_N1) | ((probabilities_NK == right_N1) & before_NK)).sum(axis=1)
    return float((ahead_N >= 5).mean())


def brier(probabilities_NK: Array, labels_N: Array) -> float:
    """The mean squared distance from the one-hot label, summed over classes, in [0, 2]. Source: Brier 1950."""
    import numpy as np

    right_N = probabilities_NK[np.arange(len(labels_N)), labels_N]
    return float(((probabilities_NK**2).sum(axis=1) - 2 * right_N + 1).mean())


def per_class_accuracy(probabilities_NK: Array, labels_N: Array) -> list[float | None]:
    """The share of each class's examples that are right; None of a class without examples."""
    right_N = is_right(probabilities_NK, labels_N)
    of_class = [right_N[labels_N == label] for label in range(probabilities_NK.shape[1])]
    return [float(right.mean()) if right.size else None for right in of_class]


def expected_calibration_error(probabilities_NK: Array, labels_N: Array, bins: int = BINS) -> float:
    """The mean gap between confidence and accuracy over bins of equally many examples, in [0, 1].

    Bins of equal mass: none is empty, and the many confident predictions do not fall into one.

    Raises:
        ValueError: there are no examples.

    Source: Nguyen and O'Connor 2015, arXiv:1508.05154; Nixon et al. 2019, arXiv:1904.01685.
    """
    return _gap(probabilities_NK.max(axis=1), is_right(probabilities_NK, labels_N), bins)


def classwise_calibration_error(probabilities_NK: Array, labels_N: Array, bins: int = BINS) -> float:
    """The same gap for the probability of each class, averaged over classes. Source: Kull et al. 2019, arXiv:1910.12656."""
    import numpy as np

    classes = probabilities_NK.shape[1]
    return float(np.mean([_gap(probabilities_NK[:, label], labels_N == label, bins) for label in range(classes)]))


def reliability(probabilities_NK: Array, labels_N: Array, bins: int = BINS) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and count of each bin of equal mass, for a reliability diagram."""
    confidence_N, right_N = probabilities_NK.max(axis=1), is_right(probabilities_NK, labels_N)
    return [
        (float(confidence_N[part].mean()), float(right_N[part].mean()), len(part))
        for part in _parts(confidence_N, bins)
    ]


def _parts(said_N: Array, bins: int) -> list[Array]:
    """The examples in order of what was said, in at most `bins` parts of equal size.

    Raises:
        ValueError: there are no examples.
    """
    import numpy as np

    if not len(said_N):
        raise ValueError("there are no examples to measure calibration on")
    return np.array_split(np.argsort(said_N, kind="stable"), min(bins, len(said_N)))


def _gap(said_N: Array, happened_N: Array, bins: int) -> float:
    import numpy as np

    parts = _parts(said_N, bins)
    ends = np.cumsum([len(part) for part in parts])
    apart_N = (said_N.astype(np.float64) - happened_N)[np.concatenate(parts)]
    return float(np.abs(np.add.reduceat(apart_N, [0, *ends[:-1]])).sum() / len(said_N))


def disagreement(said_MN: Array) -> Array:
    """The share of examples on which two members say different classes, float64 [M, M]."""
    import numpy as np

    members = len(said_MN)
    found_MM = np.zeros((members, members))
    for place in range(members):
        found_MM[place] = (said_MN != said_MN[place]).mean(axis=1)
    return found_MM


def q_statistic(right_MN: Array) -> Array:
    """Yule's Q of who is right together, in [-1, 1], float64 [M, M]; 0 of members that err independently.

    NaN where it is 0 / 0, as of two members of which one is always right.

    Source: Kuncheva and Whitaker 2003, Machine Learning 51, 181-207.
    """
    import numpy as np

    examples = right_MN.shape[1]
    right_MN = right_MN.astype(np.float32 if examples < 2**24 else np.float64)  # in which counts are exact
    both = (right_MN @ right_MN.T).astype(np.float64)
    one = both.diagonal()[:, None] - both
    other = one.T
    neither = examples - both - one - other
    with np.errstate(invalid="ignore", divide="ignore"):
        found_MM: Array = (both * neither - one * other) / (both * neither + one * other)
    return found_MM


def kl_to_members(log_ensemble_NK: Array, log_members_MNK: Array) -> Array:
    """KL(ensemble || member) in nats, averaged over examples, float64 [M]; both given as log-probabilities."""
    import numpy as np

    ensemble_NK = np.exp(log_ensemble_NK)
    return np.array([(ensemble_NK * (log_ensemble_NK - log_NK)).sum(axis=1).mean() for log_NK in log_members_MNK])


def check_identities(log_members_MNK: Array, labels_N: Array) -> None:
    """Asserts what holds of every ensemble with equal weights, to 1e-6 nats, or of the mean NLL where that is above 1.

    The NLL of the mean is at most the mean NLL (Jensen); the mean NLL less that of the normalized geometric mean is the mean
    KL(geometric mean || member).

    Source: arXiv:2301.03962.
    """
    import numpy as np

    log_right_MN = log_members_MNK[:, np.arange(len(labels_N)), labels_N]
    mean_nll = -log_right_MN.mean()
    near = 1e-6 * max(1.0, abs(mean_nll))
    largest_N = log_right_MN.max(axis=0)  # without it, all of them may be e to the power of -1,000, which is 0
    nll_of_mean = -(largest_N + np.log(np.exp(log_right_MN - largest_N).mean(axis=0))).mean()
    assert nll_of_mean <= mean_nll + near, "the NLL of the mean is above the mean NLL"
    log_geometric_NK = log_softmax(log_members_MNK.mean(axis=0))
    gained = mean_nll + log_geometric_NK[np.arange(len(labels_N)), labels_N].mean()
    apart = kl_to_members(log_geometric_NK, log_members_MNK).mean()
    assert abs(gained - apart) <= max(near, 1e-6 * abs(apart)), (
        f"the identity of the geometric mean fails: {gained} != {apart}"
    )
