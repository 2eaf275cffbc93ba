"""Rank correlation: Spearman's rho and Kendall's tau-b, both in [-1, 1], with ties; None where a side does not vary.

Worked out here because scipy.stats takes seconds to import; the tests compare with it.

Sources: Spearman 1904; Kendall 1945, The Treatment of Ties in Ranking Problems (tau-b).
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def average_ranks(values: Sequence[float]) -> list[float]:
    """The place of each value from 1, the lowest first; equal values share the mean of their places."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in order[start:end]:
            ranks[place] = (start + 1 + end) / 2
        start = end
    return ranks


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's correlation of the average ranks."""
    if len(a) < 2:
        return None
    ranks_a, ranks_b = average_ranks(a), average_ranks(b)
    mean = (len(a) + 1) / 2
    a_centered, b_centered = [rank - mean for rank in ranks_a], [rank - mean for rank in ranks_b]
    squares = math.fsum(x * x for x in a_centered) * math.fsum(y * y for y in b_centered)
    if not squares:
        return None
    return math.fsum(x * y for x, y in zip(a_centered, b_centered, strict=True)) / math.sqrt(squares)


def kendall(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Concordant less discordant pairs, over the geometric mean of the pairs that are not tied in `a` and in `b`."""
    import numpy as np

    if len(a) < 2:
        return None
    ranks_a, ranks_b = np.array(average_ranks(a)), np.array(average_ranks(b))
    agree = untied_a = untied_b = 0
    for place in range(len(a) - 1):  # a row of pairs at a time: 2,000 values take 40 ms
        signs_a, signs_b = (
            np.sign(ranks_a[place + 1 :] - ranks_a[place]),
            np.sign(ranks_b[place + 1 :] - ranks_b[place]),
        )
        agree += int(signs_a @ signs_b)
        untied_a += int(np.count_nonzero(signs_a))
        untied_b += int(np.count_nonzero(signs_b))
    return agree / math.sqrt(untied_a * untied_b) if untied_a and untied_b else None
