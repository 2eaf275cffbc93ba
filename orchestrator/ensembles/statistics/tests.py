"""Which differences are real: McNemar's exact test with Holm's correction, and the model confidence set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MOST_IN_SET = 100
"""So many models are compared in a confidence set at most: its time grows with their square."""

NOISE = 1e-7


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


def confidence_set(losses_VN: Array, seed: int, *, size: float = 0.05, resamples: int = 1_000) -> list[int]:
    """The models among which the best one is with 95 %, by their mean loss; the places of those that stay.

    Source: Hansen, Lunde and Nason 2011, The model confidence set, Econometrica 79.
    """
    import numpy as np
    from arch.bootstrap import MCS

    means_V = losses_VN.mean(axis=1)
    tried = np.argsort(means_V, kind="stable")[:MOST_IN_SET]
    # Models with equal losses everywhere have no variance to be compared by; each stands for its equals.
    groups: dict[bytes, list[int]] = {}
    for place in tried:
        groups.setdefault(np.ascontiguousarray(losses_VN[place]).tobytes(), []).append(int(place))
    first = [places[0] for places in groups.values()]
    if len(first) == 1 or losses_VN.shape[1] == 1:  # nothing tells them apart
        return sorted(place for places in groups.values() for place in places)
    # Noise far below any difference: arch cannot order pairs that differ by exactly as much, nor by the same on every example.
    noise = np.random.default_rng(seed).normal(size=(len(first), losses_VN.shape[1]))
    apart_VN = losses_VN[first] + NOISE * max(1.0, float(np.abs(losses_VN).max())) * noise
    found = MCS(apart_VN.T, size=size, reps=resamples, block_size=1, method="R", seed=seed)
    found.compute()
    stay = {first[place] for place in map(int, map(str, found.included))}
    return sorted(place for places in groups.values() if places[0] in stay for place in places)
