"""Which differences are real: McNemar's exact test with Holm's correction, and the model confidence set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.ensembles.statistics.bootstrap import resampled_means

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MOST_IN_SET = 100
"""So many models are compared in a confidence set at most: its time grows with their square."""

SMALLEST_SCALE = 1e-12


def mcnemar(first_N: Array, second_N: Array) -> float:
    """The exact p-value of two models being right equally often, from the examples that only one of them has right."""
    import numpy as np
    from statsmodels.stats.contingency_tables import mcnemar as test

    first_N, second_N = first_N.astype(bool), second_N.astype(bool)
    table = [
        [np.sum(first_N & second_N), np.sum(first_N & ~second_N)],
        [np.sum(~first_N & second_N), np.sum(~first_N & ~second_N)],
    ]
    return float(test(table, exact=True).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for being so many. Source: Holm 1979."""
    from statsmodels.stats.multitest import multipletests

    return [float(value) for value in multipletests(p_values, method="holm")[1]] if p_values else []


def level_with(best: int, right_VN: Array, size: float = 0.05) -> list[int]:
    """The models that exact McNemar tests do not tell from the one at `best`, itself among them; with Holm's correction.

    Of very few examples the bootstrap of a confidence set draws what it has seen again and again, and leaves out too much.
    """
    others = [place for place in range(len(right_VN)) if place != best]
    p_values = holm([mcnemar(right_VN[place], right_VN[best]) for place in others])
    return sorted([best, *(place for place, p_value in zip(others, p_values, strict=True) if p_value >= size)])


def confidence_set(losses_VN: Array, seed: int, *, size: float = 0.05, resamples: int = 1_000) -> list[int]:
    """The models among which the best one is with 95 %, by their mean loss; the places of those that stay.

    As long as the largest standardized difference of two is larger than chance makes it, the worse of the two is left out. `arch`
    has the same (`MCS(method="R", block_size=1)`), fails where pairs tie exactly, as accuracies do, and takes 5 s to import.

    Source: Hansen, Lunde and Nason 2011, The model confidence set, Econometrica 79; the range statistic.
    """
    import numpy as np

    means_V = losses_VN.mean(axis=1)
    tried = np.argsort(means_V, kind="stable")[:MOST_IN_SET]
    # Models with equal losses everywhere have no variance to be compared by; each stands for its equals.
    groups: dict[bytes, list[int]] = {}
    for place in tried:
        groups.setdefault(np.ascontiguousarray(losses_VN[place]).tobytes(), []).append(int(place))
    groups_of = [*groups.values()]
    first = [places[0] for places in groups_of]
    if losses_VN.shape[1] == 1:  # nothing tells them apart
        return sorted(map(int, tried))
    means_RV = resampled_means(losses_VN[first], np.random.default_rng(seed), resamples) - means_V[first]
    return sorted(place for kept in _not_worse(means_V[first], means_RV, size) for place in groups_of[kept])


def _not_worse(means_V: Array, apart_RV: Array, size: float) -> list[int]:
    """The models that stay.

    Args:
        apart_RV: the means of resamples, less the mean.
    """
    import numpy as np

    apart_RVV = apart_RV[:, :, None] - apart_RV[:, None, :]
    scale_VV = np.maximum(np.sqrt((apart_RVV**2).mean(axis=0)), SMALLEST_SCALE)  # two may differ by a constant
    apart_RVV /= scale_VV
    gaps_VV = (means_V[:, None] - means_V) / scale_VV
    kept = [*range(len(means_V))]
    while len(kept) > 1:
        of_kept = np.ix_(kept, kept)
        largest = gaps_VV[of_kept].max()
        by_chance_R = apart_RVV[:, *of_kept].max(axis=(1, 2))
        if (by_chance_R > largest).mean() > size:
            break
        worse = int(gaps_VV[of_kept].max(axis=1).argmax())
        del kept[worse]
    return kept
